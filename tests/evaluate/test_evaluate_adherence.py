"""Adherence counts what is right, next to what guessing gives; brightness measures means; codec figures are the
textbook's.
"""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

from animeflow.evaluate import adherence, codec_report
from animeflow.evaluate.adherence import AdherenceReport, Tally
from animeflow.toonworld.draw import draw
from animeflow.toonworld.words import ATTRIBUTES, SCENE_ATTRIBUTES
from animeflow.toonworld.world import HeldOut, sample_prompt_scenes, sample_scene

SCENES = [sample_scene(3, index) for index in range(60)]


def perfect(scenes):
    """Readings that agree with every truth, and guess where a picture of several figures has none."""
    return [
        {name: (adherence.truth(scene).get(name, values[0]), 1.0) for name, values in ATTRIBUTES.items()}
        for scene in scenes
    ]


def spoilt(scenes, attribute, rows):
    readings, values = perfect(scenes), ATTRIBUTES[attribute]
    for k in rows:
        truth = adherence.truth(scenes[k])[attribute]
        readings[k][attribute] = (values[(values.index(truth) + 1) % len(values)], 0.6)
    return readings


def test_a_perfect_reading_of_drawn_truths_is_exactly_one():
    result = adherence.score(perfect(SCENES), SCENES, held_out=HeldOut())
    assert result.mean == 1.0
    assert set(result.attributes) == set(ATTRIBUTES)
    assert all(tally.right == tally.asked for tally in result.attributes.values())


def test_every_mistake_counts_once_and_where_it_was_made():
    result = adherence.score(spoilt(SCENES, "lighting", range(15)), SCENES)
    assert result.attributes["lighting"] == Tally(45, 60)
    assert [name for name, value in result.accuracy().items() if value < 1] == ["lighting"]


def test_attributes_of_a_figure_are_asked_of_solo_pictures_only():
    solo = sum(len(scene.figures) == 1 for scene in SCENES)
    result = adherence.score(perfect(SCENES), SCENES)
    assert 0 < solo < len(SCENES)
    assert {name: tally.asked for name, tally in result.attributes.items()} == {
        name: len(SCENES) if name in SCENE_ATTRIBUTES else solo for name in ATTRIBUTES
    }


def test_what_never_varies_is_not_asked():
    solo = [scene for scene in SCENES if len(scene.figures) == 1]
    assert "count" not in adherence.score(perfect(solo), solo).attributes


def test_chance_is_what_the_best_constant_answer_scores():
    chance = adherence.chance(SCENES)
    for name in SCENE_ATTRIBUTES:
        constant = [
            adherence.score([{name: (value, 1.0)} for _ in SCENES], SCENES).attributes[name].accuracy
            for value in ATTRIBUTES[name]
        ]
        assert chance[name] == max(constant)


def test_pairs_count_only_unseen_combinations_and_need_both_parts():
    rule, scenes = HeldOut(), sample_prompt_scenes(1, 40)
    unseen = [
        k
        for k, scene in enumerate(scenes)
        if (scene.figures[0].hair_color, scene.background) in rule.pairs("background")
    ]
    whole = adherence.score(perfect(scenes), scenes, held_out=rule).pairs["hair_color+background"]
    half = adherence.score(spoilt(scenes, "background", unseen[:3]), scenes, held_out=rule).pairs[
        "hair_color+background"
    ]
    assert whole == Tally(len(unseen), len(unseen))
    assert half == Tally(len(unseen) - 3, len(unseen))


def test_readings_and_scenes_must_agree():
    with pytest.raises(ValueError, match="2 readings for 60 scenes"):
        adherence.score(perfect(SCENES)[:2], SCENES)


def test_the_interval_is_wilsons():
    low, high = Tally(90, 100).interval()
    assert (low, high) == pytest.approx((0.8256, 0.9448), abs=1e-4)
    assert Tally(10, 10).interval()[1] == pytest.approx(1.0)


def test_a_report_compares_with_the_empty_prompt_and_survives_json():
    drawn = [draw(scene, 48, 48, layers=False).pixels for scene in SCENES[:20]]
    calls = iter([spoilt(SCENES[:20], "artist", range(5)), spoilt(SCENES[:20], "artist", range(15))])
    report = adherence.measure(
        lambda _: next(calls), SCENES[:20], drawn, unconditional=drawn, drawn=drawn, images_seen=7
    )
    assert report.model.attributes["artist"].accuracy == 0.75
    assert report.unconditional.attributes["artist"].accuracy == 0.25
    assert report.metrics()["adherence/artist"] == 0.75
    assert report.pictures[0]["wrong"] == ["artist"]
    assert all(light.error == 0 for light in report.light.values())
    assert AdherenceReport.from_dict(json.loads(json.dumps(report.as_dict()))) == report


def test_brightness_measures_how_far_the_mean_is_off():
    night = dataclasses.replace(SCENES[0], lighting="night")
    drawn = draw(night, 48, 48, layers=False).pixels
    lighter = np.minimum(drawn.astype(int) + 20, 255).astype(np.uint8)
    light = adherence.brightness([lighter], [drawn], [night])["night"]
    assert light.error == pytest.approx(light.got - light.drawn)
    assert 15 < light.error <= 20


def test_nights_are_darker_than_white_pictures():
    scenes = [dataclasses.replace(SCENES[0], lighting=value) for value in ("night", "overexposed")]
    night, white = (adherence.luma(draw(scene, 64, 64, layers=False).pixels) for scene in scenes)
    assert night + 60 < white


class Coarse:
    """A codec that keeps 16 levels per channel."""

    channels, stride, fingerprint = 3, 1, "coarse"

    def encode(self, pixels):
        return (pixels * 8).round()

    def decode(self, latents):
        return (latents / 8).clamp(-1, 1)

    def to(self, device):
        return self


def test_psnr_and_ssim_of_known_pairs():
    picture = draw(SCENES[0], 64, 64, layers=False).pixels
    other = picture.astype(int)
    other[..., 0] += np.where(picture[..., 0] < 128, 3, -3)
    assert codec_report.psnr(picture, picture) == math.inf
    assert codec_report.psnr(picture, other.astype(np.uint8)) == pytest.approx(10 * math.log10(255**2 / 3))
    assert codec_report.ssim(picture, picture) == pytest.approx(1.0)
    assert codec_report.ssim(picture, 255 - picture) < 0.2


def test_a_coarse_codec_is_measured_as_coarse():
    pictures = [draw(scene, 64, 48, layers=False).pixels for scene in SCENES[:3]]
    report = codec_report.measure_codec(Coarse(), pictures)
    assert 28 < report.psnr_worst <= report.psnr < 40  # steps of 16 levels: 10 log10(255^2 / (16^2 / 12)) = 34.8 dB
    assert report.ssim > 0.8
    assert report.pictures == 3

"""Scenes: reproducible, JSON round trip, and combinations that training never sees."""

from __future__ import annotations

from collections import Counter

import pytest

from animeflow.core.errors import ConfigError
from animeflow.toonworld.words import ATTRIBUTES, CAST, SERIES
from animeflow.toonworld.world import HeldOut, Scene, attributes, is_held_out, sample_prompt_scenes, sample_scene


def test_the_same_place_gives_the_same_scene():
    assert [sample_scene(5, k) for k in range(20)] == [sample_scene(5, k) for k in range(20)]
    assert sample_scene(5, 0) != sample_scene(6, 0) != sample_scene(5, 1)


def test_the_lot_is_the_same_on_every_machine():
    first = sample_scene(0, 0).figures[0]
    assert (first.hair_color, first.outfit) == ("blonde_hair", "kimono")


def test_json_round_trip():
    for k in range(30):
        scene = sample_scene(1, k)
        assert Scene.from_json(scene.to_json()) == scene


def test_training_never_sees_a_held_out_pair():
    rule = HeldOut()
    scenes = [sample_scene(2, k, held_out=rule) for k in range(400)]
    assert not any(is_held_out(scene, rule) for scene in scenes)
    # but every single value does come up
    for name in ("hair_color", "hair_style", "background", "character"):
        seen = {attributes(scene, k)[name] for scene in scenes for k in range(len(scene.figures))}
        assert seen == set(ATTRIBUTES[name])


def test_prompts_are_all_held_out_and_solo():
    scenes = sample_prompt_scenes(3, 60)
    assert all(is_held_out(scene) and len(scene.figures) == 1 for scene in scenes)
    assert len({scene.to_json() for scene in scenes}) == 60


@pytest.mark.parametrize("other", ["background", "hair_style"])
def test_about_a_seventh_is_held_out_and_spread_evenly(other):
    pairs = HeldOut().pairs(other)
    total = len(ATTRIBUTES["hair_color"]) * len(ATTRIBUTES[other])
    assert 0.1 <= len(pairs) / total <= 0.2
    assert max(Counter(color for color, _ in pairs).values()) <= 2
    assert max(Counter(value for _, value in pairs).values()) <= 3


def test_the_cast_can_always_be_drawn():
    styles = HeldOut().pairs("hair_style")
    for member in CAST.values():
        assert (member.hair_color, member.hair_style) not in styles
        for name in ("hair_color", "hair_style", "eye_color", "accessory"):
            assert getattr(member, name) in ATTRIBUTES[name]
    assert len(SERIES) == 4
    assert len({(m.mark, m.mark_color) for m in CAST.values()}) == len(CAST)


def test_count_follows_its_weights_whatever_is_rejected():
    counts = Counter(len(sample_scene(4, k, held_out=HeldOut()).figures) for k in range(600))
    assert counts[1] / 600 == pytest.approx(0.8, abs=0.06)
    assert counts[2] > counts[3] > 0


def test_unknown_words_are_named():
    scene = sample_scene(0, 0)
    with pytest.raises(ConfigError, match="did you mean 'blue_hair'"):
        scene.replace("hair_color", "blu_hair")
    with pytest.raises(ConfigError, match="did you mean 'hair_color'"):
        scene.replace("hair_colour", "blue_hair")

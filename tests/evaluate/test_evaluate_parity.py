"""Languages compared by the same scenes: a planted gap is found and named, equal readings are level, luck is called unclear."""

import json
import random

import pytest

from animeflow.evaluate.adherence import score
from animeflow.evaluate.drawn import truth
from animeflow.evaluate.parity import BEHIND, LEVEL, UNCLEAR, ParityReport, measure
from animeflow.toonworld.words import ATTRIBUTES
from animeflow.toonworld.world import sample_prompt_scenes

SCENES = sample_prompt_scenes(3, 200)


def readings(share: float, *, seed: int, scenes=SCENES):
    """Readings of which `share` are right; those that are wrong in a language of a smaller share are so in a greater one, too."""
    rows = []
    for number, scene in enumerate(scenes):
        rng, row = random.Random(f"{seed} {number}"), {}
        for name, value in truth(scene).items():
            others = [other for other in ATTRIBUTES[name] if other != value]
            row[name] = (value if rng.random() < share else rng.choice(others), 1.0)
        rows.append(row)
    return rows


def test_a_planted_gap_of_ten_points_is_flagged_and_a_small_one_is_not():
    report = measure({"en": readings(0.9, seed=1), "ja": readings(0.8, seed=1), "es": readings(0.88, seed=1)}, SCENES)
    assert report.behind == ["ja"]
    assert report.languages["ja"].gap == pytest.approx(10, abs=3)
    assert [spoken.verdict for spoken in report.languages.values()] == [LEVEL, BEHIND, LEVEL]
    low, high = report.languages["ja"].interval
    assert 0 < low < report.languages["ja"].gap < high


def test_equal_readings_have_no_gap_and_a_better_language_is_level():
    same = readings(0.9, seed=1)
    report = measure({"en": same, "es": same, "zh": readings(0.99, seed=1)}, SCENES)
    assert report.languages["es"].gap == 0 and report.languages["es"].error == 0
    assert report.languages["zh"].gap < 0 and report.behind == []


def test_a_gap_of_few_pictures_is_unclear():
    few = SCENES[:4]
    found = None
    for seed in range(50):  # some draw has a gap that chance alone explains
        one, other = readings(0.7, seed=seed, scenes=few), readings(0.7, seed=seed + 100, scenes=few)
        spoken = measure({"en": one, "de": other}, few).languages["de"]
        if spoken.gap > 5 and spoken.interval[0] <= 0:
            found = spoken.verdict
    assert found == UNCLEAR


def test_the_figures_are_those_of_the_score_and_come_back_from_json():
    said = readings(0.8, seed=2)
    report = measure({"en": said, "de": readings(0.7, seed=2)}, SCENES, words={"de": (100, 7)}, prompts={"de": "Katze"})
    assert report.languages["en"].score == score(said, SCENES)
    assert report.metrics()["languages/en"] == report.languages["en"].score.mean
    assert (report.languages["de"].words, report.languages["de"].missing) == (100, 7)
    again = ParityReport.from_dict(json.loads(json.dumps(report.as_dict(), sort_keys=True)))
    assert (
        again == report
        and next(iter(again.languages)) == "en"
        and again.as_dict()["verdicts"] == {"en": LEVEL, "de": BEHIND}
    )

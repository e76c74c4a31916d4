"""Presets hold the words of the model cards to the letter, and nothing puts them into a picture that did not ask for them."""

from __future__ import annotations

import pytest

from animeflow.app.compose import compose
from animeflow.text.emphasis import parse

DEFAULT = compose()["sample"]

CARDS = {
    "anima": {
        "positive": "masterpiece, best quality, score_7, safe",
        "negative": "worst quality, low quality, score_1, score_2, score_3, artist name",
        "solver": "er_sde",
        "schedule": "simple",
        "steps": 30,
        "cfg": 4.5,
        "shift": 3.0,
    },
    "nekofantasia": {"negative": "lowres, pixelated, downscaled, artist name"},
}


@pytest.mark.parametrize("name", CARDS)
def test_a_preset_changes_what_its_card_says_and_nothing_else(name):
    assert compose([f"sample={name}"])["sample"] == {**DEFAULT, **CARDS[name]}


def test_a_word_of_the_command_line_beats_a_preset():
    sample = compose(["sample=anima", "sample.steps=50", "sample.negative=blurry"])["sample"]
    assert (sample["steps"], sample["negative"], sample["cfg"]) == (50, "blurry", 4.5)


def test_without_a_preset_no_words_are_added():
    assert not DEFAULT.get("positive") and not DEFAULT["negative"]


@pytest.mark.parametrize("name", CARDS)
def test_presets_mean_the_same_with_and_without_emphasis(name):
    for text in (CARDS[name].get("positive", ""), CARDS[name]["negative"]):
        assert parse(text) == [(text, 1.0)]

"""Official art without its artist's name: as often as asked, and nothing else changes."""

from __future__ import annotations

import random

import pytest

from animeflow.core.errors import ConfigError
from animeflow.text.caption import render
from animeflow.text.policy import CaptionPolicy

OFFICIAL = {
    "tags": {"general": ["1girl", "smile"], "character": ["hatsune_miku"], "artist": ["kei"], "meta": ["official_art"]}
}
FAN = {"tags": {**OFFICIAL["tags"], "meta": []}}


def texts(facts, policy: CaptionPolicy, count: int = 2000) -> list[str]:
    return [render(facts, policy, random.Random(i)).text for i in range(count)]


def test_as_often_as_asked() -> None:
    share = sum("kei" not in text for text in texts(OFFICIAL, CaptionPolicy(official_style=0.3))) / 2000
    assert 0.27 < share < 0.33
    assert all("hatsune miku" in text for text in texts(OFFICIAL, CaptionPolicy(official_style=1.0), 20))


def test_other_pictures_have_the_captions_they_had() -> None:
    assert texts(FAN, CaptionPolicy(official_style=0.5), 50) == texts(FAN, CaptionPolicy(), 50)
    assert texts(OFFICIAL, CaptionPolicy(official_style=0.0), 50) == texts(OFFICIAL, CaptionPolicy(), 50)


def test_switched_off_it_is_no_part_of_an_address() -> None:
    assert "official_style" not in CaptionPolicy().facts()
    assert CaptionPolicy(official_style=0.5).facts()["official_style"] == 0.5


def test_more_than_a_share_is_refused() -> None:
    with pytest.raises(ConfigError, match="official_style"):
        CaptionPolicy(official_style=1.5)

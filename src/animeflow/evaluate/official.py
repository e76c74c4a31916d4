"""Does a character come in the official style where nobody asks for another, and in another where somebody does? Counts of styles
read from pictures. Knows readings and the drawn world's artists; knows no network and no model.

The rule that teaches it is `text.official_style`: of official art the artist goes unnamed, so a prompt without an artist means the
official one. Two questions, because one alone is easily met: a model that draws every style as the official one passes the first.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..toonworld.official import OFFICIAL
from ..toonworld.words import ATTRIBUTES, CAST
from .adherence import Tally

LIMIT = 0.8  # share of the pictures that each question asks for
ARTISTS = ATTRIBUTES["artist"]


@dataclass(frozen=True)
class Question:
    """One prompt: who is in the picture, and the artist that it names, or None."""

    character: str
    artist: str | None = None

    @property
    def expected(self) -> str:
        """The artist whose style the picture should have."""
        return self.artist or OFFICIAL[CAST[self.character].series]

    def prompt(self, sign: str = "") -> str:
        """The character, her series, and the artist behind `sign`, where one is asked for; nothing else."""
        who = CAST[self.character]
        words = ["1girl", "solo", who.name, who.series, *([sign + self.artist] if self.artist else [])]
        return ", ".join(word.replace("_", " ") for word in words)


def questions(count: int) -> list[Question]:
    """`count` without an artist, then `count` with one that is not the official one; every character as often as the others."""
    silent = [Question(name) for name in itertools.islice(itertools.cycle(CAST), count)]
    named = []
    for number, question in enumerate(silent):
        others = [artist for artist in ARTISTS if artist != question.expected]
        named.append(Question(question.character, others[(number // len(CAST) + number) % len(others)]))
    return silent + named


@dataclass(frozen=True)
class OfficialReport:
    """What came of it.

    Attributes:
        images_seen: of the model that was asked.
        default: pictures of prompts without an artist that are in the official style.
        followed: pictures of prompts with another artist that are in that artist's style.
        ignored: of the latter, those in the official style all the same.
        chance: what always the best one of the artists would score, in both.
        oracle: how often the reader is right about artists of drawn pictures.
    """

    images_seen: int | None
    default: Tally
    followed: Tally
    ignored: Tally
    chance: dict[str, float]
    oracle: float | None = None

    @property
    def passed(self) -> bool:
        return self.default.accuracy >= LIMIT and self.followed.accuracy >= LIMIT

    def metrics(self) -> dict[str, float]:
        return {"official/default": self.default.accuracy, "official/followed": self.followed.accuracy}

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"passed": self.passed}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> OfficialReport:
        """The inverse of `as_dict`."""
        tallies = {name: Tally(**value[name]) for name in ("default", "followed", "ignored")}
        return cls(value["images_seen"], **tallies, chance=dict(value["chance"]), oracle=value.get("oracle"))


def measure(
    asked: Sequence[Question],
    artists: Sequence[str],
    *,
    images_seen: int | None = None,
    oracle: float | None = None,
) -> OfficialReport:
    """`artists`: whose style was read from the picture of every question. Raises ValueError where either question was not asked."""
    rows = list(zip(asked, artists, strict=True))
    silent = [(each, read) for each, read in rows if each.artist is None]
    named = [(each, read) for each, read in rows if each.artist is not None]
    if not silent or not named:
        raise ValueError("ask prompts without an artist and prompts with one")
    official = [Question(each.character).expected for each, _ in named]
    return OfficialReport(
        images_seen,
        default=_right([each.expected for each, _ in silent], [read for _, read in silent]),
        followed=_right([each.expected for each, _ in named], [read for _, read in named]),
        ignored=_right(official, [read for _, read in named]),
        chance={"default": _chance(silent), "followed": _chance(named)},
        oracle=oracle,
    )


def _right(expected: Sequence[str], read: Sequence[str]) -> Tally:
    return Tally(sum(one == other for one, other in zip(expected, read, strict=True)), len(expected))


def _chance(rows: Sequence[tuple[Question, str]]) -> float:
    wanted = [each.expected for each, _ in rows]
    return max(wanted.count(artist) for artist in ARTISTS) / len(wanted)

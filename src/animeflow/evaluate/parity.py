"""The same prompts and seeds in several languages: how well each is followed, and which one lags. Knows readings and scenes; knows
no translation, no network and no model.

Languages are compared picture by picture, since a hard scene is hard in all of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..toonworld.world import Scene
from .adherence import Score, Tally, chance, details, score

LIMIT = 5.0  # points that a language may lie behind the reference
LEVEL, BEHIND, UNCLEAR = "level", "behind", "unclear"
Z = 1.96

Readings = Sequence[Mapping[str, tuple[str, float]]]


@dataclass(frozen=True)
class Spoken:
    """One language.

    Attributes:
        score: what was read as asked.
        words, missing: tags of the prompts, and those that had no word in it and stayed as they were.
        gap: points of adherence that it lies behind the reference, in the mean over attributes.
        error: standard error of that, from the differences picture by picture.
    """

    score: Score
    words: int = 0
    missing: int = 0
    gap: float = 0.0
    error: float = 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """95 %, in points."""
        return self.gap - Z * self.error, self.gap + Z * self.error

    @property
    def verdict(self) -> str:
        """`behind` by more than the limit, and certainly behind; `level` within it; `unclear` beyond it, by so few pictures that it
        may be luck."""
        if self.gap <= LIMIT:
            return LEVEL
        return BEHIND if self.interval[0] > 0 else UNCLEAR


@dataclass(frozen=True)
class ParityReport:
    """All languages of one measurement, the reference first, as written to `languages.json`."""

    images_seen: int | None
    reference: str
    languages: dict[str, Spoken]
    chance_mean: float | None = None
    prompts: dict[str, str] = field(default_factory=dict)

    @property
    def behind(self) -> list[str]:
        """Languages that lag, the worst first."""
        lagging = [name for name, spoken in self.languages.items() if spoken.verdict == BEHIND]
        return sorted(lagging, key=lambda name: -self.languages[name].gap)

    def metrics(self) -> dict[str, float]:
        return {f"languages/{name}": spoken.score.mean or 0.0 for name, spoken in self.languages.items()}

    def as_dict(self) -> dict[str, Any]:
        """JSON values; means and verdicts repeat what follows from the tallies, for readers of the file."""
        verdicts = {name: spoken.verdict for name, spoken in self.languages.items()}
        means = {name: spoken.score.mean for name, spoken in self.languages.items()}
        return asdict(self) | {"verdicts": verdicts, "means": means}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> ParityReport:
        """The inverse of `as_dict`."""
        languages = {}
        first = value["reference"]  # JSON on disk is in alphabetical order
        for name, each in sorted(value["languages"].items(), key=lambda pair: (pair[0] != first, pair[0])):
            kinds = ({n: Tally(**t) for n, t in each["score"][kind].items()} for kind in ("attributes", "pairs"))
            languages[name] = Spoken(Score(*kinds), each["words"], each["missing"], each["gap"], each["error"])
        return cls(
            value["images_seen"],
            value["reference"],
            languages,
            value.get("chance_mean"),
            dict(value.get("prompts") or {}),
        )


def measure(
    readings: Mapping[str, Readings],
    scenes: Sequence[Scene],
    *,
    words: Mapping[str, tuple[int, int]] | None = None,
    prompts: Mapping[str, str] | None = None,
    images_seen: int | None = None,
) -> ParityReport:
    """Compare languages: `readings` of the pictures of the same scenes and seeds in each, the reference first.

    Args:
        words: per language, tags of the prompts and those that had no word in it.
        prompts: one prompt per language, to show.
    """
    reference = next(iter(readings))
    first = score(readings[reference], scenes)
    rows = {name: [_share(row) for row in details(found, scenes)] for name, found in readings.items()}
    languages = {}
    for name, found in readings.items():
        own = score(found, scenes)
        gap = 100 * ((first.mean or 0.0) - (own.mean or 0.0))
        lost = [100 * (one - other) for one, other in zip(rows[reference], rows[name], strict=True)]
        languages[name] = Spoken(own, *(words or {}).get(name, (0, 0)), gap=gap, error=_error(lost))
    levels = chance(scenes)
    known = [levels[name] for name in first.attributes if name in levels]
    return ParityReport(
        images_seen, reference, languages, sum(known) / len(known) if known else None, dict(prompts or {})
    )


def _share(row: Mapping[str, Any]) -> float:
    asked = len(row["right"]) + len(row["wrong"])
    return len(row["right"]) / asked if asked else 0.0


def _error(values: Sequence[float]) -> float:
    """Standard error of the mean."""
    n = len(values)
    if n < 2:
        return math.inf
    mean = sum(values) / n
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1) / n)

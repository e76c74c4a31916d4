"""Does the picture show what was asked? Counts of attributes read right, next to what guessing gives. Knows readings
and truths; knows no network, no model and no file.

A figure is only printed with what it must beat: `chance`, the best constant answer to these very questions, and the
same model sampled with the empty prompt and scored against the same truths.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..toonworld.words import ATTRIBUTES
from ..toonworld.world import HeldOut, Scene
from .drawn import truth

Pictures = Sequence[NDArray[np.uint8]]
Reader = Callable[[Pictures], Sequence[Mapping[str, tuple[str, float]]]]
"""`Oracle.read`, or anything that reads like it."""

PAIRS = {"hair_color+background": ("hair_color", "background"), "hair_color+hair_style": ("hair_color", "hair_style")}
LUMA = (0.2126, 0.7152, 0.0722)  # BT.709


@dataclass(frozen=True)
class Tally:
    """So many right of so many asked."""

    right: int
    asked: int

    @property
    def accuracy(self) -> float:
        return self.right / self.asked

    def interval(self, z: float = 1.96) -> tuple[float, float]:
        """Wilson's score interval, 95 % by default: what so few questions can tell. E. B. Wilson, JASA 22 (1927)."""
        n, p = self.asked, self.accuracy
        middle, reach = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(0.0, (middle - reach) / (1 + z * z / n)), min(1.0, (middle + reach) / (1 + z * z / n))


@dataclass(frozen=True)
class Score:
    """Tallies of one set of pictures: by attribute, and by pair of attributes that training never saw together."""

    attributes: dict[str, Tally]
    pairs: dict[str, Tally] = field(default_factory=dict)

    @property
    def mean(self) -> float | None:
        """Mean of the attributes' accuracies, every attribute counting alike; None when nothing was asked."""
        values = list(self.accuracy().values())
        return sum(values) / len(values) if values else None

    def accuracy(self) -> dict[str, float]:
        return {name: tally.accuracy for name, tally in self.attributes.items()}


def score(
    readings: Sequence[Mapping[str, tuple[str, float]]], scenes: Sequence[Scene], *, held_out: HeldOut | None = None
) -> Score:
    """Readings against the truths of the scenes that were asked for, in the same order.

    Attributes of a figure are asked of pictures with one figure only, and what is the same in every scene is not asked at all:
    always answering `1girl` where every prompt says so proves nothing. With `held_out`, a pair counts as right when both of its
    attributes are, in scenes whose pair training never saw.
    """
    if len(readings) != len(scenes):
        raise ValueError(f"{len(readings)} readings for {len(scenes)} scenes")
    right, asked, varied = Counter[str](), Counter[str](), questions(scenes)
    for reading, scene in zip(readings, scenes):
        known = truth(scene)
        hit = {name: reading[name][0] == value for name, value in known.items() if name in reading and name in varied}
        asked.update(list(hit))
        right.update(name for name, is_right in hit.items() if is_right)
        for pair, (first, second) in PAIRS.items():
            new = held_out is not None and (known.get(first), known.get(second)) in held_out.pairs(second)
            if new and first in hit and second in hit:
                asked[pair] += 1
                right[pair] += hit[first] and hit[second]
    tallies = {name: Tally(right[name], asked[name]) for name in (*ATTRIBUTES, *PAIRS) if asked[name]}
    return Score(
        {name: tally for name, tally in tallies.items() if name in ATTRIBUTES},
        {name: tally for name, tally in tallies.items() if name in PAIRS},
    )


def questions(scenes: Sequence[Scene]) -> frozenset[str]:
    """Attributes that have at least two values among the truths of these scenes."""
    values: dict[str, set[str]] = {}
    for scene in scenes:
        for name, value in truth(scene).items():
            values.setdefault(name, set()).add(value)
    return frozenset(name for name, seen in values.items() if len(seen) > 1)


def chance(scenes: Sequence[Scene]) -> dict[str, float]:
    """attribute or pair -> share of its most frequent value among these truths: what the best constant answer scores."""
    values: dict[str, Counter[Any]] = {}
    for scene in scenes:
        known = truth(scene)
        for name, value in known.items():
            values.setdefault(name, Counter())[value] += 1
        for pair, parts in PAIRS.items():
            if all(part in known for part in parts):
                values.setdefault(pair, Counter())[tuple(known[part] for part in parts)] += 1
    return {name: max(counts.values()) / counts.total() for name, counts in values.items()}


@dataclass(frozen=True)
class Light:
    """Brightness of pictures that asked for one lighting, as mean luma in 0..255."""

    asked: int
    drawn: float  # of the true pictures of these scenes
    got: float
    error: float  # mean over the pictures of |got - drawn|


def brightness(pictures: Pictures, drawn: Pictures, scenes: Sequence[Scene]) -> dict[str, Light]:
    """lighting -> how bright the pictures are next to the drawn ones of the same scenes. A model that cannot move the mean of a
    picture, a known failure of diffusion, makes nights too light and white pictures too dark."""
    rows: dict[str, list[tuple[float, float]]] = {}
    for picture, reference, scene in zip(pictures, drawn, scenes, strict=True):
        rows.setdefault(scene.lighting, []).append((luma(picture), luma(reference)))
    lights = {}
    for name in (value for value in ATTRIBUTES["lighting"] if value in rows):
        got, reference = np.array(rows[name]).T
        error = float(np.abs(got - reference).mean())
        lights[name] = Light(len(got), float(reference.mean()), float(got.mean()), error)
    return lights


def luma(picture: NDArray[np.uint8]) -> float:
    """Mean BT.709 luma of uint8 RGB `[H, W, 3]`."""
    return float(picture.reshape(-1, 3).mean(0, dtype=np.float64) @ np.array(LUMA))


@dataclass(frozen=True)
class AdherenceReport:
    """All figures of one measurement, as written to `adherence.json`.

    Attributes:
        images_seen: of the model that was asked.
        model, unconditional: scores of the prompted pictures, and of the same model with the empty prompt.
        chance: what the best constant answer scores.
        light: brightness by lighting; empty when not measured.
        oracle: accuracy of the oracle itself per attribute: nothing measured with it is more certain than that.
        pictures: per picture `{"truth": {...}, "read": {...}, "right": [names], "wrong": [names], ...}`.
    """

    images_seen: int | None
    model: Score
    chance: dict[str, float]
    unconditional: Score | None = None
    light: dict[str, Light] = field(default_factory=dict)
    oracle: dict[str, float] = field(default_factory=dict)
    pictures: list[dict[str, Any]] = field(default_factory=list)

    @property
    def chance_mean(self) -> float | None:
        values = [self.chance[name] for name in self.model.attributes if name in self.chance]
        return sum(values) / len(values) if values else None

    def metrics(self, prefix: str = "adherence") -> dict[str, float]:
        """Figures by the names they have in `metrics.jsonl`."""
        values = {f"{prefix}/{name}": value for name, value in self.model.accuracy().items()}
        values |= {f"{prefix}/{name}": tally.accuracy for name, tally in self.model.pairs.items()}
        values |= {f"{prefix}/light_error_{name}": light.error for name, light in self.light.items()}
        return values | ({f"{prefix}/mean": self.model.mean} if self.model.mean is not None else {})

    def as_dict(self) -> dict[str, Any]:
        """JSON values; `mean`, `chance_mean` and `attributes` repeat what follows from the tallies, for readers of the file."""
        figures = {"mean": self.model.mean, "chance_mean": self.chance_mean, "attributes": self.model.accuracy()}
        return asdict(self) | figures

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> AdherenceReport:
        """The inverse of `as_dict`."""

        def score_of(part: Mapping[str, Any]) -> Score:
            kinds = ({n: Tally(**tally) for n, tally in part[kind].items()} for kind in ("attributes", "pairs"))
            return Score(*kinds)

        return cls(
            images_seen=value["images_seen"],
            model=score_of(value["model"]),
            chance=dict(value["chance"]),
            unconditional=score_of(value["unconditional"]) if value.get("unconditional") else None,
            light={name: Light(**light) for name, light in value.get("light", {}).items()},
            oracle=dict(value.get("oracle", {})),
            pictures=list(value.get("pictures", [])),
        )


def measure(
    read: Reader,
    scenes: Sequence[Scene],
    pictures: Pictures,
    *,
    unconditional: Pictures | None = None,
    drawn: Pictures | None = None,
    held_out: HeldOut | None = None,
    images_seen: int | None = None,
    oracle: Mapping[str, float] | None = None,
) -> AdherenceReport:
    """Score `pictures`, made from the prompts of `scenes`, and what they are compared with.

    Args:
        unconditional: pictures of the same model with the empty prompt, as many as there are scenes.
        drawn: the true pictures of the scenes at the same size, for the brightness probe.
        held_out: the rule of the data set, for pairs that training never saw.
        oracle: the reader's own accuracy per attribute, e.g. `Oracle.record["accuracy"]`.
    """
    readings = read(pictures)
    return AdherenceReport(
        images_seen=images_seen,
        model=score(readings, scenes, held_out=held_out),
        chance=chance(scenes),
        unconditional=None if unconditional is None else score(read(unconditional), scenes, held_out=held_out),
        light={} if drawn is None else brightness(pictures, drawn, scenes),
        oracle=dict(oracle or {}),
        pictures=details(readings, scenes),
    )


def details(readings: Sequence[Mapping[str, tuple[str, float]]], scenes: Sequence[Scene]) -> list[dict[str, Any]]:
    """Per picture what was asked, what was read, and the names that were right and wrong."""
    varied, rows = questions(scenes), []
    for reading, scene in zip(readings, scenes):
        known = {name: value for name, value in truth(scene).items() if name in reading and name in varied}
        read = {name: reading[name][0] for name in known}
        right = [name for name in known if read[name] == known[name]]
        wrong = [name for name in known if read[name] != known[name]]
        rows.append({"truth": known, "read": read, "right": right, "wrong": wrong})
    return rows

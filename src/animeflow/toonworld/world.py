"""Scenes of toonworld: what is in a picture, drawn by lot and known exactly. Knows words and numbers; knows no pixels."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from animeflow.core.errors import ConfigError, DataError, did_you_mean
from animeflow.toonworld.words import ATTRIBUTES, CAST, FIGURE_ATTRIBUTES, FIXED, GUESTS, SCENE_ATTRIBUTES, Character

__all__ = [
    "ATTRIBUTES",
    "CAST",
    "Figure",
    "HeldOut",
    "Scene",
    "attributes",
    "generator",
    "is_held_out",
    "sample_guest_scene",
    "sample_prompt_scenes",
    "sample_scene",
]

DEFAULT_COUNT_WEIGHTS: Mapping[int, float] = {1: 0.8, 2: 0.15, 3: 0.05}


def generator(*parts: int | str) -> np.random.Generator:
    """A Philox generator keyed by `parts`: the same parts give the same draws on every machine and in every process."""
    text = "\x1f".join(f"{type(part).__name__[0]}{part}" for part in parts)
    key = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "big")
    return np.random.Generator(np.random.Philox(key=key))


def _check(attribute: str, value: str) -> None:
    if attribute == "character" and value in GUESTS:
        return
    if value not in ATTRIBUTES[attribute]:
        known = ATTRIBUTES[attribute]
        raise ConfigError(
            f"unknown {attribute} '{value}'{did_you_mean(value, known)}", do=f"choose one of: {', '.join(known)}"
        )


@dataclass(frozen=True)
class Figure:
    """One figure; every field is a value of `ATTRIBUTES`. `character` is `original`, a name of the cast or a guest."""

    hair_color: str
    hair_style: str
    eye_color: str
    expression: str
    outfit: str
    accessory: str
    pose: str
    character: str = "original"

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check(field.name, getattr(self, field.name))

    @property
    def identity(self) -> Character | None:
        """The member of the cast or the guest, or None for an original figure."""
        return CAST.get(self.character) or GUESTS.get(self.character)


@dataclass(frozen=True)
class Scene:
    """Everything known about one picture. `figures` go from the left of the picture to its right; `seed` moves things a little."""

    figures: tuple[Figure, ...]
    background: str
    lighting: str
    artist: str
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= len(self.figures) <= 3:
            raise ConfigError(f"a scene has 1 to 3 figures, not {len(self.figures)}")
        for name in ("background", "lighting", "artist"):
            _check(name, getattr(self, name))

    @property
    def count(self) -> str:
        return SCENE_ATTRIBUTES["count"][len(self.figures) - 1]

    def replace(self, attribute: str, value: str, *, figure: int = 0) -> Scene:
        """The same scene with one attribute changed (of figure number `figure`, where it is a figure's)."""
        if attribute not in ATTRIBUTES or attribute == "count":
            known = [name for name in ATTRIBUTES if name != "count"]
            raise ConfigError(
                f"unknown attribute '{attribute}'{did_you_mean(attribute, known)}",
                do=f"choose one of: {', '.join(known)}",
            )
        if attribute in SCENE_ATTRIBUTES:
            return Scene.from_dict({**self.to_dict(), attribute: value})
        if not 0 <= figure < len(self.figures):
            raise ConfigError(f"figure {figure} does not exist in a scene of {len(self.figures)}")
        changed = dataclasses.replace(self.figures[figure], **{attribute: value})
        return dataclasses.replace(self, figures=(*self.figures[:figure], changed, *self.figures[figure + 1 :]))

    def to_dict(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "figures": [dataclasses.asdict(figure) for figure in self.figures]}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Scene:
        try:
            return cls(**{**value, "figures": tuple(Figure(**figure) for figure in value["figures"])})
        except (KeyError, TypeError) as error:
            raise DataError(f"not a toonworld scene: {error}", do="draw the data set again") from error

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Scene:
        return cls.from_dict(json.loads(text))


def attributes(scene: Scene, figure: int = 0) -> dict[str, str]:
    """attribute -> value for one figure and the scene around it; the keys are those of `ATTRIBUTES`."""
    of_scene = {name: getattr(scene, name) for name in SCENE_ATTRIBUTES}
    return {**{name: getattr(scene.figures[figure], name) for name in (*FIGURE_ATTRIBUTES, "character")}, **of_scene}


@dataclass(frozen=True)
class HeldOut:
    """Pairs never seen in training: a `share` of (hair_color, background) and of (hair_color, hair_style).

    The choice is a function of the salt, spread evenly over the colours; pairs the cast needs are never held out.
    """

    share: float = 0.15
    salt: str = "toonworld"

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= 0.5:
            raise ConfigError(f"held-out share {self.share} is not in [0, 0.5]")

    def pairs(self, other: str) -> frozenset[tuple[str, str]]:
        """Held-out (hair_color, value of `other`) pairs; `other` is `background` or `hair_style`."""
        return _held_out_pairs(self.share, self.salt, other)


@lru_cache(maxsize=64)
def _held_out_pairs(share: float, salt: str, other: str) -> frozenset[tuple[str, str]]:
    colors, values = ATTRIBUTES["hair_color"], ATTRIBUTES[other]
    needed = {(member.hair_color, member.hair_style) for member in CAST.values()} if other == "hair_style" else set()
    free = [(color, value) for color in colors for value in values if (color, value) not in needed]
    order = dict(zip(free, generator("held_out", salt, other).permutation(len(free)).tolist(), strict=True))
    held: set[tuple[str, str]] = set()
    for _ in range(round(share * len(colors) * len(values))):
        rest = [pair for pair in free if pair not in held]
        held.add(min(rest, key=lambda pair: (_load(held, pair), order[pair])))
    return frozenset(held)


def _load(held: set[tuple[str, str]], pair: tuple[str, str]) -> int:
    """How often the two values of a pair are held out already; taking the least first spreads the pairs."""
    return max(sum(pair[0] == color for color, _ in held), sum(pair[1] == value for _, value in held))


def is_held_out(scene: Scene, held_out: HeldOut | None = None) -> bool:
    """Whether any figure shows a combination that training never sees."""
    rule = held_out or HeldOut()
    by_background, by_style = rule.pairs("background"), rule.pairs("hair_style")
    return any(
        (figure.hair_color, scene.background) in by_background or (figure.hair_color, figure.hair_style) in by_style
        for figure in scene.figures
    )


def _choose(rng: np.random.Generator, attribute: str) -> str:
    values = ATTRIBUTES[attribute]
    return values[int(rng.integers(len(values)))]


def _sample_figure(rng: np.random.Generator, named_share: float) -> Figure:
    values = {name: _choose(rng, name) for name in FIGURE_ATTRIBUTES}
    named, member = rng.random() < named_share, list(CAST.values())[int(rng.integers(len(CAST)))]
    if named:
        fixed = {name: getattr(member, name) for name in FIXED}
        values |= {**fixed, "character": member.name}
    return Figure(**values)


def _draw_lot(
    seed: int, index: int, attempt: int, count_weights: Mapping[int, float], named_share: float
) -> Scene | None:
    """One draw, or None when two figures would share a hair colour: relations need figures that a word tells apart."""
    rng = generator("scene", seed, index, attempt)
    counts, weights = list(count_weights), np.array(list(count_weights.values()), dtype=np.float64)
    # Attempt 0 alone decides the count, so that rejections do not favour solo pictures.
    count = counts[int(generator("count", seed, index).choice(len(counts), p=weights / weights.sum()))]
    figures = tuple(_sample_figure(rng, named_share) for _ in range(count))
    if len({figure.hair_color for figure in figures}) < count:
        return None
    scene_values = {name: _choose(rng, name) for name in ("background", "lighting", "artist")}
    return Scene(figures=figures, **scene_values, seed=int(rng.integers(1 << 31)))


def sample_scene(
    seed: int,
    index: int,
    *,
    held_out: HeldOut | None = None,
    count_weights: Mapping[int, float] = DEFAULT_COUNT_WEIGHTS,
    named_share: float = 0.3,
) -> Scene:
    """Scene number `index` of the world `seed`: a pure function of its arguments.

    Args:
        held_out: training passes its rule here and never gets a scene it marks; None draws from everything.
        count_weights: number of figures -> weight.
        named_share: probability that a figure is a member of the cast.
    """
    for attempt in range(10_000):
        scene = _draw_lot(seed, index, attempt, count_weights, named_share)
        if scene is not None and (held_out is None or not is_held_out(scene, held_out)):
            return scene
    raise ConfigError("no scene passes the held-out rule", do="lower held_out.share")


def guest(name: str) -> Character:
    """The guest of that name. Raises ConfigError when there is none."""
    if name not in GUESTS:
        raise ConfigError(
            f"no guest is called '{name}'{did_you_mean(name, GUESTS)}",
            where="toonworld.guest",
            do=f"choose one of: {', '.join(GUESTS)}; or null for ordinary pictures",
        )
    return GUESTS[name]


def sample_guest_scene(name: str, seed: int, index: int) -> Scene:
    """Scene number `index` of a guest alone: what makes her who she is stays, the rest is drawn by lot.

    Every combination may occur: a guest's pictures are about her, not about what was held out.
    """
    member, rng = guest(name), generator("guest", name, seed, index)
    free = {attribute: _choose(rng, attribute) for attribute in ("expression", "outfit", "pose")}
    figure = Figure(**{attribute: getattr(member, attribute) for attribute in FIXED}, **free, character=member.name)
    around = {attribute: _choose(rng, attribute) for attribute in ("background", "lighting", "artist")}
    return Scene(figures=(figure,), **around, seed=int(rng.integers(1 << 31)))


def sample_prompt_scenes(
    seed: int,
    count: int,
    *,
    held_out: HeldOut | None = None,
    count_weights: Mapping[int, float] | None = None,
    named_share: float = 0.3,
) -> list[Scene]:
    """`count` scenes for evaluation prompts, each with a combination training never saw (solo unless weights say otherwise)."""
    rule = held_out or HeldOut()
    if rule.share == 0:
        raise ConfigError("held_out.share is 0, so nothing is held out", do="use a share of about 0.15")

    def scenes() -> Iterator[Scene]:
        index = 0
        while True:
            for attempt in range(10_000):
                scene = _draw_lot(seed ^ 0x5EED, index, attempt, count_weights or {1: 1.0}, named_share)
                if scene is not None and is_held_out(scene, rule):
                    yield scene
                    break
            index += 1

    stream = scenes()
    return [next(stream) for _ in range(count)]

"""What a tagger is, and the folder that one lies in: its labels, and how it wants its pictures. Runs no network.

A folder holds `model.onnx`, or `config.json` with `model.safetensors` as transformers saves a classifier. Labels are read from
`selected_tags.csv` (`tag_id,name,category,count`, as the taggers that people use have it), `labels.csv` (`name,category`), or the
config's `id2label`. What a graph does not tell may stand in `tagger.json`: `{"channels": "bgr", "scale": 255, "mean": [...],
"std": [...], "output": "logit"}`.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigError, DataError, did_you_mean
from ..core.files import address, read_json, sha256_file
from ..image.picture import Pixels
from ..image.square import square
from ..text.tags import CATEGORIES, to_name

NUMBERS = {"0": "general", "1": "artist", "3": "copyright", "4": "character", "5": "meta", "9": "rating"}
KNOWN = (*CATEGORIES, "rating")
DECIDING = ("tagger.json", "selected_tags.csv", "labels.csv", "config.json", "preprocessor_config.json")


class Tagger(Protocol):
    """Scores of labels for pictures. `name` and `version` say who speaks."""

    name: str
    version: str
    labels: Sequence[Label]

    def scores(self, pictures: Sequence[Pixels]) -> NDArray[np.float32]:
        """`[B, labels]` in 0..1 for uint8 RGB pictures of any size."""
        ...


@dataclass(frozen=True)
class Label:
    """A tag that a tagger knows."""

    name: str
    category: str

    @property
    def word(self) -> str:
        """How it stands in a table of scores: `general:long_hair`."""
        return f"{self.category}:{self.name}"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """How a network wants its pictures, and what it gives.

    Args:
        channels: rgb or bgr. scale: the largest value of a channel, 255 or 1. mean, std: taken off and divided by, after scaling.
        output: probability or logit.
        fill: grey around a picture that is no square.
    """

    channels: str = "rgb"
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    output: str = "probability"
    fill: int = 255

    def __post_init__(self) -> None:
        for name, value, known in (
            ("channels", self.channels, ("rgb", "bgr")),
            ("output", self.output, ("probability", "logit")),
        ):
            if value not in known:
                raise ConfigError(
                    f"unknown {name} '{value}'{did_you_mean(str(value), known)}",
                    where="tagger.json",
                    do=f"choose one of: {', '.join(known)}",
                )

    def batch(self, pictures: Sequence[Pixels], side: int, *, channels_first: bool) -> NDArray[np.float32]:
        """`[B, 3, side, side]` or `[B, side, side, 3]`."""
        stacked = np.stack([square(pixels, side, fill=self.fill) for pixels in pictures]).astype(np.float32)
        if self.channels == "bgr":
            stacked = stacked[..., ::-1]
        mean, std = (np.asarray(values, np.float32) for values in (self.mean, self.std))
        stacked = (stacked * np.float32(self.scale / 255) - mean) / std
        return np.ascontiguousarray(stacked.transpose(0, 3, 1, 2) if channels_first else stacked, dtype=np.float32)

    def scores(self, output: NDArray[Any], name: str) -> NDArray[np.float32]:
        """Numbers of a network as scores. Raises DataError for what cannot be probabilities."""
        found = np.asarray(output, dtype=np.float32)
        if self.output == "logit":
            return (1 / (1 + np.exp(-found))).astype(np.float32)
        if not np.isfinite(found).all() or found.min(initial=0) < -1e-3 or found.max(initial=0) > 1 + 1e-3:
            raise DataError(
                f"{name} gives numbers from {found.min():.3g} to {found.max():.3g}, which are no probabilities",
                where="tagger.json",
                do='write {"output": "logit"} into tagger.json of its folder',
            )
        return found.clip(0, 1)


def read_wanted(folder: Path, defaults: Wanted) -> Wanted:
    """`tagger.json` of a folder over what its graph tells."""
    file = folder / "tagger.json"
    if not file.is_file():
        return defaults
    told, known = read_json(file), {name: getattr(defaults, name) for name in Wanted.__dataclass_fields__}
    if not isinstance(told, Mapping):
        raise ConfigError("not a map of settings", where=str(file))
    for name in told:
        if name not in known:
            raise ConfigError(f"unknown setting '{name}'{did_you_mean(str(name), known)}", where=str(file))
    return Wanted(**{**known, **{name: tuple(v) if isinstance(v, list) else v for name, v in told.items()}})


def read_labels(folder: Path) -> list[Label]:
    """Labels in the order of a network's outputs. Raises ConfigError where a folder has none."""
    for name, column in (("selected_tags.csv", "name"), ("labels.csv", "name")):
        if (folder / name).is_file():
            with open(folder / name, encoding="utf-8-sig", newline="") as file:
                rows = list(csv.DictReader(file))
            if not rows or column not in rows[0]:
                raise ConfigError(f"{name} has no column '{column}'", where=str(folder))
            return [Label(to_name(row[column]), _category(row.get("category") or "0", folder)) for row in rows]
    if (folder / "config.json").is_file() and (told := read_json(folder / "config.json").get("id2label")):
        return [_labelled(told[key]) for key in sorted(told, key=int)]
    raise ConfigError(
        "nothing says what the tagger's outputs are called", where=str(folder),
        do="put selected_tags.csv (tag_id,name,category,count) or labels.csv (name,category) into its folder",
    )  # fmt: skip


def version_of(file: Path) -> str:
    """16 hex digits of a model's file, and of those beside it that decide how it is asked and what its outputs are called: with
    another `tagger.json` it is another tool, which is asked anew."""
    deciding = [file, *(beside for name in DECIDING if (beside := file.with_name(name)).is_file())]
    return address(**{each.name: sha256_file(each) for each in deciding})[:16]


def _labelled(text: str) -> Label:
    category, _, name = text.rpartition(":")
    return Label(to_name(name), category if category in KNOWN else "general")


def _category(word: str, folder: Path) -> str:
    category = NUMBERS.get(word.strip(), word.strip().lower())
    if category not in KNOWN:
        raise ConfigError(f"unknown category '{word}'{did_you_mean(word, KNOWN)}", where=str(folder))
    return category

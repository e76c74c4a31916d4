"""How often a run shows which picture, and how many captions lose their end: read from a cache or shards that are there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core import files
from ..core.errors import AnimeflowError
from ..image.bucket import Bucket
from .wiring import Config, Workspace


@dataclass(frozen=True)
class Exposure:
    """What a set holds for training.

    Attributes:
        source: where this was read.
        images: bucket -> pictures of the training split that an epoch shows: one with repeats counts as often as it comes.
        truncated: encoder -> captions that are longer than it takes.
        captions: that were looked at.
    """

    source: str
    images: dict[Bucket, int]
    truncated: dict[str, int] = field(default_factory=dict)
    captions: int = 0

    @property
    def total(self) -> int:
        return sum(self.images.values())

    def shares(self) -> dict[Bucket, float]:
        return {bucket: count / self.total for bucket, count in self.images.items()}

    def visits(self, images: int) -> float:
        """How often every picture is seen in a run of so many: buckets keep their shares, so it is the same in all of them. With
        repeats one is seen so many times more."""
        return images / self.total


def exposure(config: Config) -> Exposure | str:
    """Of the cache, else of the shards; else why there is nothing to tell."""
    place = Workspace.of(config)
    for read, folder in (
        (_of_cache, place.cache / config["model"]["family"]),
        (_of_shards, place.shards),
    ):
        try:
            if (found := read(folder, config["data"]["loader"].get("repeats") or {})) is not None and found.total:
                return found
        except AnimeflowError as error:
            return f"{folder}: {error.what}"
    return f"neither cache nor shards in {place.set} yet"


def _of_cache(folder: Path, repeats: Mapping[str, int]) -> Exposure | None:
    from ..data.index import LATEST, manifest_path, part_path, read_part

    if not (folder / LATEST).is_file():
        return None
    address = files.read_json(folder / LATEST)["hash"]
    world = files.read_json(manifest_path(folder, address))["world"]
    images: Counter[str] = Counter()
    truncated: Counter[str] = Counter()
    captions = 0
    for rank in range(world):
        names = ["bucket", "split", *(["concept"] if repeats else [])]  # an older cache has no column of concepts
        table, report = read_part(part_path(folder, address, rank, world), names)
        for bucket, split, *concept in zip(*(table[name].to_pylist() for name in names), strict=True):
            if split == "train":
                images[bucket] += repeats.get(concept[0], 1) if concept else 1
        truncated.update(report.get("truncated", {}))
        captions += report.get("texts_encoded", 0) + report.get("texts_reused", 0)
    return Exposure(str(folder), _parsed(images), dict(truncated), captions)


def _of_shards(folder: Path, _: Mapping[str, int]) -> Exposure | None:
    from ..data.manifest import MANIFEST, Manifest

    if not (folder / MANIFEST).is_file():
        return None
    buckets = Manifest.read(folder).buckets
    return Exposure(
        f"{folder}, held-out pictures among them", _parsed({name: row["samples"] for name, row in buckets.items()})
    )


def _parsed(images: Any) -> dict[Bucket, int]:
    return {Bucket.parse(name): count for name, count in sorted(images.items()) if count}

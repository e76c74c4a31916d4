"""How often a run shows which picture, and how many captions lose their end: read from a cache or shards that are there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..core import files
from ..core.errors import ConfigError, DataError
from ..image.bucket import Bucket
from .wiring import Config, Workspace, set_of


@dataclass(frozen=True)
class Exposure:
    """What a set holds for training.

    Attributes:
        source: where this was read.
        images: bucket -> pictures of the training split that an epoch shows: one with repeats counts as often as it comes; of
            `data.loader.exposure` the expected number.
        truncated: encoder -> captions that are longer than it takes.
        captions: that were looked at.
        lines: components of the mixture, or one of all pictures, where `data.loader.exposure` says anything.
    """

    source: str
    images: dict[Bucket, float]
    truncated: dict[str, int] = field(default_factory=dict)
    captions: int = 0
    lines: tuple[Any, ...] = ()

    @property
    def total(self) -> float:
        return sum(self.images.values())

    def shares(self) -> dict[Bucket, float]:
        return {bucket: count / self.total for bucket, count in self.images.items()}

    def visits(self, images: int) -> float:
        """How often every picture is seen in a run of so many: buckets keep their shares, so it is the same in all of them. With
        repeats one is seen so many times more; of other exposures it is the number of epochs."""
        return images / self.total


def asked(config: Config) -> Any:
    """`data.exposure_settings.Settings`: of `data.loader.exposure`, and of the weights of origins in `curate.provenance`."""
    from ..data.exposure_settings import settings_of
    from .curation import curation

    node = config.get("curate") or {}  # a run of before has none
    weighed = node.get("include") or any(isinstance(rule, Mapping) for rule in (node.get("provenance") or {}).values())
    return settings_of(
        config["data"]["loader"].get("exposure"), origins=curation(config).weights() if weighed else None
    )


def exposures_of(config: Config, uids: list[int], concepts: Callable[[], Mapping[int, str]]) -> Any:
    """`data.exposure.Exposures` of the pictures to train on; None where nothing is asked.

    Args:
        concepts: uid -> source, of the cache: it is enough for what is asked of sources alone.
    Raises:
        ConfigError: what is asked cannot be, or nothing is known of the pictures.
    """
    settings = asked(config)
    if not settings.says_something:
        return None
    from ..data.exposure import columns, exposures
    from ..data.facts import facts_of, sources_of
    from ..data.reader import ShardSet
    from ..data.repeats import repeats_of

    said, needed, shards = (
        dict(config["data"]["loader"].get("repeats") or {}),
        columns(settings),
        set_of(config) / "shards",
    )
    repeats = repeats_of(concepts(), said) if said else None
    if needed <= {"source"}:
        return exposures(sources_of(uids, concepts() if needed else None), settings, repeats=repeats)
    if shards.size("manifest.json") is None:
        raise ConfigError(
            f"it cannot be told here which pictures fit: {', '.join(sorted(needed))}", where="data.loader.exposure",
            why=f"the shards know it, and there are none in {shards}", do="bring the shards too, or ask for sources alone",
        )  # fmt: skip
    return exposures(facts_of(ShardSet(shards), needed, uids=uids), settings, repeats=repeats)


def exposure(config: Config) -> Exposure | str:
    """Of the cache, else of the shards; else why there is nothing to tell. Raises ConfigError where `data.loader.exposure` asks for
    what cannot be."""
    place = Workspace.of(config)
    for read, folder in (
        (_of_cache, place.cache / config["model"]["family"]),
        (_of_shards, place.shards),
    ):
        try:
            if (found := read(folder, config)) is not None and found.total:
                return found
        except DataError as error:
            return f"{folder}: {error.what}"
    return f"neither cache nor shards in {place.set} yet"


def _of_cache(folder: Path, config: Config) -> Exposure | None:
    from ..data.index import LATEST, manifest_path, part_path, read_part

    if not (folder / LATEST).is_file():
        return None
    repeats, settings = config["data"]["loader"].get("repeats") or {}, asked(config)
    address = files.read_json(folder / LATEST)["hash"]
    world = files.read_json(manifest_path(folder, address))["world"]
    images: Counter[str] = Counter()
    truncated: Counter[str] = Counter()
    captions = 0
    buckets: dict[int, str] = {}
    concepts: dict[int, str] = {}
    more = [*(["concept"] if repeats or settings.says_something else []), *(["uid"] if settings.says_something else [])]
    for rank in range(world):
        names = ["bucket", "split", *more]  # an older cache has no column of concepts
        table, report = read_part(part_path(folder, address, rank, world), names)
        for bucket, split, *facts in zip(*(table[name].to_pylist() for name in names), strict=True):
            if split == "train":
                images[bucket] += repeats.get(facts[0], 1) if facts else 1
                if settings.says_something:
                    concepts[facts[1]], buckets[facts[1]] = facts[0], bucket
        truncated.update(report.get("truncated", {}))
        captions += report.get("texts_encoded", 0) + report.get("texts_reused", 0)
    if not settings.says_something:
        return Exposure(str(folder), _parsed(images), dict(truncated), captions)
    return _expected(config, str(folder), buckets, concepts, dict(truncated), captions)


def _of_shards(folder: Path, config: Config) -> Exposure | None:
    from ..data.manifest import MANIFEST, Manifest

    if not (folder / MANIFEST).is_file():
        return None
    if asked(config).says_something:
        from ..data.facts import facts_of
        from ..data.reader import ShardSet

        shards = ShardSet(folder)
        buckets = {uid: shards.bucket_of(uid) for uid in shards.uids if shards.split_of(uid) == "train"}
        table = facts_of(shards, {"source"}, uids=buckets)
        concepts = dict(
            zip(table["uid"].to_pylist(), (name or "" for name in table["source"].to_pylist()), strict=True)
        )
        return _expected(config, str(folder), buckets, concepts)
    rows = Manifest.read(folder).buckets
    return Exposure(
        f"{folder}, held-out pictures among them", _parsed({name: row["samples"] for name, row in rows.items()})
    )


def _expected(
    config: Config,
    source: str,
    buckets: Mapping[int, str],
    concepts: Mapping[int, str],
    truncated: dict[str, int] | None = None,
    captions: int = 0,
) -> Exposure:
    """What an epoch is expected to show, and what the plan makes of it."""
    shown = exposures_of(config, list(buckets), lambda: concepts)
    names, numbers = np.unique([buckets[uid] for uid in shown.uids.tolist()], return_inverse=True)
    images = dict(zip(names.tolist(), np.bincount(numbers.reshape(-1), weights=shown.times).tolist(), strict=True))
    return Exposure(source, _parsed(images), truncated or {}, captions, tuple(shown.lines(config["seed"])))


def _parsed(images: Any) -> dict[Bucket, Any]:
    return {Bucket.parse(name): count for name, count in sorted(images.items()) if count}

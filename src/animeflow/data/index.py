"""Which entries of a cache belong to which picture: manifest, index parts, and both stores. Knows files; knows no codec."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..core import files
from ..core.errors import ConfigError, DataError
from .manifest import key
from .place import Place, local_folder, place_of, read_json
from .store import Store

FORMAT = 1
LATEST = "latest.json"
SCHEMA = pa.schema(
    {
        "uid": pa.int64(),
        "bucket": pa.string(),
        "split": pa.string(),
        "latent": pa.string(),
        "captions": pa.list_(pa.string()),
        "texts": pa.list_(pa.string()),
        "concept": pa.string(),
    }
)
"""One row per picture: address of its latent, addresses and texts of its captions, and the source that it came from."""
OPTIONAL = {"mask": pa.string(), "priors": pa.list_(pa.string())}
"""Columns of caches that have such: address of the mask (null where all of the picture counts), addresses of the prior of every
caption."""


@dataclass(frozen=True)
class Row:
    """What the cache holds of one picture. `captions` are addresses of rows, `texts` what they say, `priors` addresses of what they
    say to a model that knows no trigger, variant by variant."""

    uid: int
    bucket: str
    split: str
    latent: str
    captions: tuple[str, ...]
    texts: tuple[str, ...]
    concept: str = ""
    mask: str | None = None
    priors: tuple[str, ...] = ()


def part_path(folder: Path, hash: str, rank: int, world: int) -> Path:
    return Path(folder) / f"index-{hash}.{rank}-of-{world}.parquet"


def manifest_path(folder: Path, hash: str) -> Path:
    return Path(folder) / f"manifest-{hash}.json"


def write_part(path: Path, rows: Sequence[Row], report: Mapping[str, Any], *, more: Iterable[str] = ()) -> None:
    """The rows of one process, sorted by uid, and what it has to report. `more` names the OPTIONAL columns to write."""
    ordered, schema = sorted(rows, key=lambda row: row.uid), SCHEMA
    for name in more:
        schema = schema.append(pa.field(name, OPTIONAL[name]))
    columns = [
        pa.array([getattr(row, name) for row in ordered], type=kind) for name, kind in zip(schema.names, schema.types)
    ]
    table = pa.Table.from_arrays(columns, schema=schema.with_metadata({"animeflow": json.dumps(dict(report))}))
    with files.atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)


def read_part(path: Path, columns: Sequence[str] | None = None) -> tuple[pa.Table, dict[str, Any]]:
    """Raises DataError, naming the file, when it is broken."""
    return _parse_part(path, str(path), columns)


def _parse_part(source: Any, where: str, columns: Sequence[str] | None = None) -> tuple[pa.Table, dict[str, Any]]:
    try:
        names = list(columns) if columns else None
        table = pq.read_table(source, columns=names, page_checksum_verification=True)
        return table, json.loads(table.schema.metadata[b"animeflow"])
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise DataError(
            f"a part of the cache's index cannot be read: {error}", where=where, do="run 'cache' again"
        ) from error


class CacheIndex:
    """A finished cache of one family: pictures, their entries, and the stores that hold them.

    Args:
        folder: `cache/<family>`, here or elsewhere.
        hash: which of its indices; the latest by default.
        memory_bytes: entries kept in memory once they were read, half for latents and half for texts.
        skip_broken: open it although files of it are broken or gone, as long as few pictures are touched (`bearable`).
    Raises:
        DataError: there is none, a process has not finished its part, or an entry is gone.
    """

    def __init__(
        self, folder: str | Path | Place, *, hash: str | None = None, memory_bytes: int = 0, skip_broken: bool = False
    ) -> None:
        self.place = place_of(folder)
        self.hash = hash or _latest(self.place)
        self.manifest = _manifest(self.place, self.hash)
        columns = ["bucket", "split", "latent", "captions", *more_columns(self.manifest["identity"])]
        table = self._read_parts(["uid", *columns])
        order = np.argsort(table["uid"].to_numpy())
        self._uids = table["uid"].to_numpy()[order]
        self._columns = {n: table[n].combine_chunks().take(pa.array(order)) for n in columns}
        options: dict[str, Any] = {"memory_bytes": memory_bytes // 2, "skip_broken": skip_broken}
        self.latents = Store(self.place / "latents", **options)
        self.texts = Store(self.place / "texts", **options)
        self.masks = Store(self.place / "masks", **options) if self.has_masks else None
        self._check(skip_broken)

    @property
    def folder(self) -> Path:
        """Where the cache lies on this machine. Raises DataError for one elsewhere."""
        return local_folder(self.place)

    def __len__(self) -> int:
        return len(self._uids)

    @property
    def empty(self) -> str:
        """Address of the row of the empty prompt."""
        return self.manifest["empty"]

    @property
    def variants(self) -> int:
        """Captions per picture; 0 where captions are only rendered and encoded live."""
        return int(self.manifest["identity"]["variants"])

    @property
    def has_masks(self) -> bool:
        """Whether the set that was cached has masks; not every picture of it need have one."""
        return "mask" in self._columns

    @property
    def has_priors(self) -> bool:
        """Whether the captions of the class are here too."""
        return "priors" in self._columns

    @property
    def uids(self) -> list[int]:
        return self._uids.tolist()

    def require(self, *, codec: str | None = None, tower: str | None = None) -> None:
        """Raises ConfigError when this cache was made by a codec or tower of another fingerprint."""
        for what, fingerprint in (("codec", codec), ("tower", tower)):
            if fingerprint is not None and self.manifest["identity"][what] != fingerprint:
                raise ConfigError(
                    f"the cache was made by another {what} or other settings of it", where=str(self.place),
                    why="what it holds would mean something else to this model",
                    do="run 'cache' with this model: entries of it that exist already are found again",
                )  # fmt: skip

    def buckets(self, split: str | None = "train") -> dict[str, list[int]]:
        """Bucket -> uids of one split (None: of all): what a Plan is made of."""
        found: dict[str, list[int]] = {}
        for uid, bucket, part in zip(
            self._uids.tolist(), self._columns["bucket"].to_pylist(), self._columns["split"].to_pylist()
        ):
            if split in (None, part):
                found.setdefault(bucket, []).append(uid)
        return found

    def concepts(self, split: str | None = "train") -> dict[int, str]:
        """uid -> the concept (source) of every picture. Raises DataError for a cache that is older than this column."""
        try:
            table = self._read_parts(["uid", "split", "concept"])
        except DataError as error:
            raise DataError(
                "this cache does not say which picture is of which concept", where=str(self.place), why=str(error),
                do="run 'cache' again: nothing is encoded anew",
            ) from error  # fmt: skip
        rows = zip(*(table[name].to_pylist() for name in ("uid", "split", "concept")), strict=True)
        return {uid: concept for uid, part, concept in rows if split in (None, part)}

    def bucket_of(self, uid: int) -> str:
        return self._columns["bucket"][self._row(uid)].as_py()

    def split_of(self, uid: int) -> str:
        return self._columns["split"][self._row(uid)].as_py()

    def latent_address(self, uid: int) -> str:
        return self._columns["latent"][self._row(uid)].as_py()

    def caption_addresses(self, uid: int) -> list[str]:
        return self._columns["captions"][self._row(uid)].as_py()

    def prior_addresses(self, uid: int) -> list[str]:
        """Of what each of `caption_addresses` says to a model that knows no trigger."""
        return self._columns["priors"][self._row(uid)].as_py()

    def mask_address(self, uid: int) -> str | None:
        """None where all of the picture counts."""
        return self._columns["mask"][self._row(uid)].as_py() if self.has_masks else None

    def fetch(self, uids: Sequence[int], captions: Iterable[str]) -> None:
        """Start reading what will be wanted soon, where it lies elsewhere: latents and masks of pictures, rows of captions by
        address."""
        if self.place.pool:
            self.latents.fetch([self.latent_address(uid) for uid in uids])
            self.texts.fetch(captions)
            if self.masks is not None:
                self.masks.fetch(filter(None, map(self.mask_address, uids)))

    def close(self) -> None:
        """Let go of files, and end every wait for a store that does not answer."""
        self.place.close()
        self.latents.place.close()
        self.texts.place.close()
        if self.masks is not None:
            self.masks.place.close()

    def captions(self, uids: Sequence[int]) -> dict[int, list[str]]:
        """What the cached captions of some pictures say, for reports."""
        table = self._read_parts(["uid", "texts"])
        wanted = set(uids)
        return {u: t for u, t in zip(table["uid"].to_pylist(), table["texts"].to_pylist()) if u in wanted}

    def _row(self, uid: int) -> int:
        row = int(np.searchsorted(self._uids, uid))
        if row == len(self._uids) or self._uids[row] != uid:
            raise DataError(f"picture {key(uid)} is not in the cache", where=str(self.place), do="run 'cache' again")
        return row

    def _read_parts(self, columns: Sequence[str]) -> pa.Table:
        world = self.manifest["world"]
        paths = [part_path(Path(), self.hash, rank, world).name for rank in range(world)]
        missing = [name for name, size in zip(paths, self.place.map(self.place.size, paths)) if size is None]
        if missing:
            raise DataError(
                f"{len(missing)} of {len(paths)} processes have not finished their part of the cache: {', '.join(missing)}",
                where=str(self.place), do="wait for them, or run 'cache' again with the same number of processes",
            )  # fmt: skip
        return pa.concat_tables([part.replace_schema_metadata() for part in self.place.map(self._part(columns), paths)])

    def _part(self, columns: Sequence[str]) -> Callable[[str], pa.Table]:
        def read(name: str) -> pa.Table:
            where, tables = self.place.where(name), []
            if self.place.local:  # Parquet reads the columns alone, of a file here
                return _parse_part(where, where, columns)[0]
            self.place.read_bytes(
                name, check=lambda data: tables.append(_parse_part(pa.BufferReader(data), where, columns)[0])
            )
            return tables[-1]

        return read

    def _check(self, skip_broken: bool) -> None:
        captions = self._columns["captions"].flatten().unique().to_pylist()
        if self.has_priors:
            captions += self._columns["priors"].flatten().unique().to_pylist()
        lost = self.latents.missing(self._columns["latent"].to_pylist()) + self.texts.missing([*captions, self.empty])
        if self.masks is not None:
            lost += self.masks.missing(self._columns["mask"].drop_null().to_pylist())
        if lost and not (skip_broken and self._touched(set(lost)) <= bearable(len(self))):
            raise DataError(
                f"{len(lost)} entries that the index names are gone, the first is {lost[0]}", where=str(self.place),
                do="run 'cache' again: only these are encoded anew",
            )  # fmt: skip

    def _touched(self, lost: set[str]) -> int:
        """Pictures that need one of the entries."""
        needed: list[set[str | None]] = [{latent} for latent in self._columns["latent"].to_pylist()]
        for name in {"captions", "priors"} & self._columns.keys():
            for entries, row in zip(needed, self._columns[name].to_pylist(), strict=True):
                entries |= set(row or ())
        for entries, mask in zip(needed, self._columns["mask"].to_pylist() if self.has_masks else ()):
            entries.add(mask)
        return sum(not lost.isdisjoint(entries) for entries in needed)


def more_columns(identity: Mapping[str, Any]) -> list[str]:
    """Those of OPTIONAL that a cache of this identity has."""
    return [name for name, sign in (("mask", "masks"), ("priors", "prior")) if identity.get(sign)]


def bearable(pictures: int) -> int:
    """Broken pictures that a run puts up with where it skips them: 0.1 % of its set, and ten of a small one."""
    return max(10, pictures // 1000)


def _latest(place: Place) -> str:
    if place.size(LATEST) is None:
        raise DataError("there is no finished cache here", where=str(place), do="run the verb 'cache' until it ends")
    return read_json(place, LATEST)["hash"]


def _manifest(place: Place, hash: str) -> dict[str, Any]:
    name = manifest_path(Path(), hash).name
    if place.size(name) is None:
        known = ", ".join(Path(n).stem.removeprefix("manifest-") for n in place.names("manifest-*.json")) or "none"
        raise DataError(f"there is no cache {hash}", where=str(place), do=f"known here: {known}; or run 'cache'")
    return read_json(place, name)

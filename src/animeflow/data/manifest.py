"""What a folder of shards says about itself: manifest, sample index, member names. Knows JSON and Parquet; knows no picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..core import files
from ..core.errors import DataError
from .place import Place, place_of, read_json

FORMAT = 1
MANIFEST = "manifest.json"
INDEX = "index.parquet"
PICTURE, FACTS = "png", "json"
"""Extensions of the two members of a sample: `<uid 16 hex>.png` (uint8 RGB, lossless) and `<uid 16 hex>.json`."""
MASK = "mask.png"
"""Extension of the third member, of samples that have a mask: uint8 grey, lossless."""


def key(uid: int) -> str:
    """WebDataset key of a sample: unique over all shards, so no reader can ever mix two samples up."""
    return f"{uid:016x}"


@dataclass(frozen=True)
class SampleRow:
    """Where one sample lies and what its bytes hash to.

    Attributes:
        offset, size: the contiguous byte range of both members in the tar, headers and padding included.
        png_offset, png_size, png_sha256, json_offset, json_size, json_sha256: payload of each member.
        pixels: sha256 of the decoded picture (`height`, `width` as little-endian uint32, then RGB bytes). Latents are
            addressed by it, so another PNG encoder does not cost a re-encode.
        mask_offset, mask_size, mask_sha256: payload of the third member, where there is one.
        mask: sha256 of the mask, as `pixels`, empty where everything counts.
    """

    uid: int
    bucket: str
    shard: str
    split: str
    offset: int
    size: int
    png_offset: int
    png_size: int
    png_sha256: str
    json_offset: int
    json_size: int
    json_sha256: str
    pixels: str
    mask_offset: int = 0
    mask_size: int = 0
    mask_sha256: str = ""
    mask: str = ""

    def as_json(self) -> dict[str, Any]:
        """All fields; those of the mask only where there is one, so that a set without masks is as it always was."""
        return {name: value for name, value in asdict(self).items() if self.mask or not name.startswith("mask")}


@dataclass(frozen=True)
class Rejection:
    """A picture that is in no shard, and why. `reason` is a short slug to count by."""

    uid: int
    path: str
    reason: str
    detail: str = ""


@dataclass(frozen=True)
class Manifest:
    """Counts, bytes and hashes of a folder of shards, and the config that made it. found = written + rejected.

    Attributes:
        masks: where masks came from -> pictures, and `empty` -> the paths of those whose mask shows nothing of them after the crop,
            and so counts for nothing. Empty where no masks were asked for.
    """

    found: int
    written: int
    rejected: list[Rejection]
    buckets: dict[str, dict[str, int]]
    shards: list[dict[str, Any]]
    posts: str
    samples: str
    config: dict[str, Any]
    index: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT
    masks: dict[str, Any] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        return sum(shard["bytes"] for shard in self.shards)

    @property
    def reasons(self) -> dict[str, int]:
        return dict(Counter(rejection.reason for rejection in self.rejected))

    def to_json(self) -> dict[str, Any]:
        value = {**asdict(self), "bytes": self.bytes, "reasons": self.reasons}
        if not self.masks:
            del value["masks"]
        return value

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Manifest:
        fields = {name: value[name] for name in Manifest.__dataclass_fields__ if name != "masks" or name in value}
        return Manifest(**{**fields, "rejected": [Rejection(**row) for row in value["rejected"]]})

    @staticmethod
    def read(folder: str | Path | Place) -> Manifest:
        """Raises DataError when there is none, it cannot be read or another format wrote it."""
        place = place_of(folder)
        path = place.where(MANIFEST)
        if place.size(MANIFEST) is None:
            raise DataError("there are no finished shards here", where=path, do="run the verb 'shard' until it ends")
        value = read_json(place, MANIFEST)
        try:
            if value["format"] != FORMAT:
                raise DataError(
                    f"shards of format {value['format']}, this reads {FORMAT}", where=path, do="run 'shard' again"
                )
            return Manifest.from_json(value)
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"the manifest cannot be read: {error}", where=path, do="run 'shard' again") from error


def samples_hash(rows: Iterable[SampleRow]) -> str:
    """One hash of what every sample holds, wherever it lies."""
    parts = sorted([row.uid, row.bucket, row.pixels, row.json_sha256, *filter(None, [row.mask])] for row in rows)
    return files.sha256(files.canonical(parts))[:32]


def write_index(path: Path, rows: Iterable[SampleRow]) -> None:
    """All samples as one Parquet table, sorted by uid, with columns of masks if there is any. The same rows give the same bytes."""
    ordered = sorted(rows, key=lambda row: row.uid)
    masks = any(row.mask for row in ordered)
    columns = {name: kind for name, kind in _COLUMNS.items() if masks or not name.startswith("mask")}
    table = pa.table(
        {name: pa.array([getattr(row, name) for row in ordered], type=_TYPES[kind]) for name, kind in columns.items()}
    )
    with files.atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


_COLUMNS: dict[str, str] = {name: str(kind.type) for name, kind in SampleRow.__dataclass_fields__.items()}
_TYPES = {"int": pa.int64(), "str": pa.string()}


def read_index(place: Place, name: str, *, sha256: str) -> pa.Table:
    """Raises DataError, naming the file, when it is missing, broken or not the one of this hash."""
    where, do = place.where(name), "run 'shard' again"

    def check(data: bytes) -> None:
        if files.sha256(data) != sha256:
            raise DataError("the index is not the one of the manifest", where=where, do=do)

    try:
        return pq.read_table(pa.BufferReader(place.read_bytes(name, check=check)))
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"the index of the shards cannot be read: {error}", where=where, do=do) from error

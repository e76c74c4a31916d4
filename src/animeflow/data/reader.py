"""Samples out of shards: by byte range where there is an index, as a stream where there is none. Unpacks nothing to disk.

Every range is checked against its hash, so a flipped byte or a truncated file is an error with a path and never a wrong picture.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..core import files
from ..core.errors import DataError
from .manifest import FACTS, MASK, PICTURE, Manifest, key, read_index
from .place import Place, local_folder, place_of

_PIECE = 8 * 2**20


class Sample(NamedTuple):
    """One picture as it lies in a shard: the bytes of a lossless PNG, and its facts."""

    uid: int
    png: bytes
    facts: dict[str, Any]


class ShardSet:
    """A finished folder of shards, here or elsewhere, read by position. Safe to use from several threads.

    Raises:
        DataError: there is no manifest, or index or shards are not what it says (sizes here, hashes on every read).
    """

    def __init__(self, folder: str | Path | Place) -> None:
        self.place = place_of(folder)
        self.manifest = Manifest.read(self.place)
        table = read_index(self.place, self.manifest.index["name"], sha256=self.manifest.index["sha256"])
        self._uids = table["uid"].to_numpy()
        self._numbers = {name: table[name].to_numpy() for name in table.column_names if table[name].type == "int64"}
        self._words = {name: table[name].combine_chunks().dictionary_encode() for name in ("bucket", "shard", "split")}
        hashes = (
            "png_sha256",
            "json_sha256",
            "pixels",
            "mask_sha256",
            "mask",
        )  # the last two only where there are masks
        self._hashes = {name: table[name].combine_chunks() for name in hashes if name in table.column_names}
        self._check_sizes()

    @property
    def folder(self) -> Path:
        """Where the shards lie on this machine. Raises DataError for those elsewhere."""
        return local_folder(self.place)

    def __len__(self) -> int:
        return len(self._uids)

    @property
    def uids(self) -> list[int]:
        """All uids, ascending."""
        return self._uids.tolist()

    @property
    def samples_hash(self) -> str:
        """One hash of what every sample holds."""
        return self.manifest.samples

    def bucket_of(self, uid: int) -> str:
        return self._words["bucket"][self._row(uid)].as_py()

    def shard_of(self, uid: int) -> Path:
        """The tar of a sample, on this machine."""
        return self.folder / self._shard(uid)

    def split_of(self, uid: int) -> str:
        return self._words["split"][self._row(uid)].as_py()

    def pixels_of(self, uid: int) -> str:
        """sha256 of the decoded picture: what its latent is addressed by."""
        return self._hashes["pixels"][self._row(uid)].as_py()

    @property
    def has_masks(self) -> bool:
        """Whether any picture has one."""
        return "mask" in self._hashes

    def mask_of(self, uid: int) -> str | None:
        """sha256 of the mask of a picture, None where all of it counts."""
        return (self._hashes["mask"][self._row(uid)].as_py() or None) if self.has_masks else None

    def mask(self, uid: int) -> bytes:
        """The bytes of the mask of a picture that has one, a lossless grey PNG."""
        return self._member(uid, MASK)

    def in_file_order(self) -> list[int]:
        """All uids in the order in which they lie on disk."""
        shards = np.asarray(self._words["shard"].to_pylist())
        return self._uids[np.lexsort((self._numbers["offset"], shards))].tolist()

    def sample(self, uid: int) -> Sample:
        """Both members of a sample. Raises DataError, naming the shard, when its bytes are not those that were written."""
        return Sample(uid, self._member(uid, PICTURE), self.facts(uid))

    def facts(self, uid: int) -> dict[str, Any]:
        """What the catalogue knew of a picture, and its crop, without reading the picture."""
        return json.loads(self._member(uid, FACTS))

    def verify(self) -> Iterator[DataError]:
        """Read every shard and yield one error per file that is not what the manifest says."""
        for shard in self.manifest.shards:
            where, size = self.place.where(shard["name"]), self.place.size(shard["name"])
            if size is None:
                yield DataError("a shard is missing", where=where, do="run 'shard' again")
            elif size != shard["bytes"] or self._hash_of(shard["name"], size) != shard["sha256"]:
                yield DataError("a shard is not the file that was written", where=where, do="run 'shard' again")

    # -- inside --------------------------------------------------------------------------------------------------------

    def _row(self, uid: int) -> int:
        row = int(np.searchsorted(self._uids, uid))
        if row == len(self._uids) or self._uids[row] != uid:
            raise DataError(f"picture {key(uid)} is in none of these shards", where=str(self.place))
        return row

    def _shard(self, uid: int) -> str:
        return self._words["shard"][self._row(uid)].as_py()

    def _hash_of(self, name: str, size: int) -> str:
        digest = hashlib.sha256()
        for start in range(0, size, _PIECE):
            digest.update(self.place.read_range(name, start, min(_PIECE, size - start)))
        return digest.hexdigest()

    def _member(self, uid: int, name: str) -> bytes:
        row, column = self._row(uid), name.removesuffix(".png")
        shard, wanted = self._shard(uid), self._hashes[f"{column}_sha256"][row].as_py()
        start, size = (int(self._numbers[f"{column}_{part}"][row]) for part in ("offset", "size"))

        def check(data: bytes) -> None:
            if files.sha256(data) != wanted:
                raise DataError(
                    f"the bytes of {key(uid)}.{name} at {start} are not those that were written",
                    where=self.place.where(shard), do="run 'shard' again: it rewrites the shards that are broken",
                )  # fmt: skip

        return self.place.read_range(shard, start, size, check=check)

    def _check_sizes(self) -> None:
        shards = self.manifest.shards
        for shard, size in zip(shards, self.place.map(self.place.size, [shard["name"] for shard in shards])):
            if size != shard["bytes"]:
                what = "is missing" if size is None else f"has {size} bytes, {shard['bytes']} were written"
                raise DataError(
                    f"a shard {what}", where=self.place.where(shard["name"]),
                    do="run 'shard' again: it rewrites only what is broken",
                )  # fmt: skip


def stream(folder: Path) -> Iterator[Sample]:
    """All samples of the tars under `folder` by stock webdataset, in file order, for sets without an index.

    No order of data, no exact resume and no hash: use `ShardSet` where there is a manifest.
    Raises DataError for a folder without tars, a broken tar, and a sample without both members.
    """
    os.environ.setdefault("WDS_SECURE", "1")  # webdataset would run `pipe:` names in a shell
    import webdataset

    tars = sorted(str(path) for path in Path(folder).rglob("*.tar") if not path.name.startswith("."))
    if not tars:
        raise DataError("there are no shards here", where=str(folder))
    for tar in tars:
        try:
            for item in webdataset.WebDataset([tar], shardshuffle=False):
                missing = {PICTURE, FACTS} - item.keys()
                if missing:
                    raise DataError(f"sample {item['__key__']} has no {' and no '.join(sorted(missing))}", where=tar)
                yield Sample(int(item["__key__"], 16), item[PICTURE], json.loads(item[FACTS]))
        except (OSError, EOFError, ValueError, tarfile.TarError) as error:
            raise DataError(f"the shard cannot be read: {error}", where=tar) from error

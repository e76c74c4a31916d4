"""Samples out of shards: by byte range where there is an index, as a stream where there is none. Unpacks nothing to disk.

Every range is checked against its hash, so a flipped byte or a truncated file is an error with a path and never a wrong picture.
"""

from __future__ import annotations

import json
import os
import tarfile
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..core import files
from ..core.errors import DataError
from .manifest import FACTS, PICTURE, Manifest, key, read_index


class Sample(NamedTuple):
    """One picture as it lies in a shard: the bytes of a lossless PNG, and its facts."""

    uid: int
    png: bytes
    facts: dict[str, Any]


class OpenFiles:
    """A bounded set of open files that several threads read from by position."""

    def __init__(self, limit: int = 64) -> None:
        self._limit, self._lock = limit, threading.Lock()
        self._open: OrderedDict[Path, int] = OrderedDict()

    def read(self, path: Path, offset: int, size: int) -> bytes:
        """Raises DataError, naming the file, when it is missing or ends too early."""
        try:
            with self._lock:
                handle = os.dup(
                    self._handle(path)
                )  # a copy of our own: another thread may close the original meanwhile
        except OSError as error:
            raise DataError(f"the file cannot be opened: {error.strerror}", where=str(path)) from error
        try:
            data = os.pread(handle, size, offset)
            while 0 < len(data) < size and (more := os.pread(handle, size - len(data), offset + len(data))):
                data += more
        except OSError as error:
            raise DataError(f"the file cannot be read: {error.strerror}", where=str(path)) from error
        finally:
            os.close(handle)
        if len(data) != size:
            raise DataError(
                f"the file ends early: {size} bytes at {offset} were asked for, {len(data)} are there", where=str(path)
            )
        return data

    def _handle(self, path: Path) -> int:
        if path in self._open:
            self._open.move_to_end(path)
            return self._open[path]
        self._open[path] = handle = os.open(path, os.O_RDONLY)
        if len(self._open) > self._limit:
            os.close(self._open.popitem(last=False)[1])
        return handle

    def close(self) -> None:
        with self._lock:
            while self._open:
                os.close(self._open.popitem()[1])

    def __del__(self) -> None:
        self.close()


class ShardSet:
    """A finished folder of shards, read by position. Safe to use from several threads.

    Raises:
        DataError: there is no manifest, or index or shards are not what it says (sizes here, hashes on every read).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.manifest = Manifest.read(self.folder)
        index = self.folder / self.manifest.index["name"]
        if not index.is_file() or files.sha256_file(index) != self.manifest.index["sha256"]:
            raise DataError("the index is not the one of the manifest", where=str(index), do="run 'shard' again")
        table = read_index(index)
        self._uids = table["uid"].to_numpy()
        self._numbers = {name: table[name].to_numpy() for name in table.column_names if table[name].type == "int64"}
        self._words = {name: table[name].combine_chunks().dictionary_encode() for name in ("bucket", "shard", "split")}
        self._hashes = {name: table[name].combine_chunks() for name in ("png_sha256", "json_sha256", "pixels")}
        self._files = OpenFiles()
        self._check_sizes()

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
        return self.folder / self._words["shard"][self._row(uid)].as_py()

    def split_of(self, uid: int) -> str:
        return self._words["split"][self._row(uid)].as_py()

    def pixels_of(self, uid: int) -> str:
        """sha256 of the decoded picture: what its latent is addressed by."""
        return self._hashes["pixels"][self._row(uid)].as_py()

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
            path = self.folder / shard["name"]
            if not path.is_file():
                yield DataError("a shard is missing", where=str(path), do="run 'shard' again")
            elif files.sha256_file(path) != shard["sha256"]:
                yield DataError("a shard is not the file that was written", where=str(path), do="run 'shard' again")

    # -- inside --------------------------------------------------------------------------------------------------------

    def _row(self, uid: int) -> int:
        row = int(np.searchsorted(self._uids, uid))
        if row == len(self._uids) or self._uids[row] != uid:
            raise DataError(f"picture {key(uid)} is in none of these shards", where=str(self.folder))
        return row

    def _member(self, uid: int, name: str) -> bytes:
        row = self._row(uid)
        path = self.shard_of(uid)
        start = int(self._numbers[f"{name}_offset"][row])
        data = self._files.read(path, start, int(self._numbers[f"{name}_size"][row]))
        if files.sha256(data) != self._hashes[f"{name}_sha256"][row].as_py():
            raise DataError(
                f"the bytes of {key(uid)}.{name} at {start} are not those that were written",
                where=str(path), do="run 'shard' again: it rewrites the shards that are broken",
            )  # fmt: skip
        return data

    def _check_sizes(self) -> None:
        for shard in self.manifest.shards:
            path = self.folder / shard["name"]
            size = path.stat().st_size if path.is_file() else None
            if size != shard["bytes"]:
                what = "is missing" if size is None else f"has {size} bytes, {shard['bytes']} were written"
                raise DataError(
                    f"a shard {what}", where=str(path), do="run 'shard' again: it rewrites only what is broken"
                )


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

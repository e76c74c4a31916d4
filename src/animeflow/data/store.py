"""A content-addressed store of tensors: append-only, filled by any number of processes at once. Knows addresses; knows no meaning.

Every writer appends files of its own and renames them into place, so no process ever waits for another. The same entry twice
is harmless: an address says everything about its content.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np
import torch
import xxhash
from torch import Tensor

from ..core.errors import DataError
from .coming import Coming
from .place import OutOfReach, Place, local_folder, place_of
from .segment import ENTRY, Layout, Segment, index_path, open_segment, raw, tensors_of, write_segment
from .segment_elsewhere import fetch_segment

log = logging.getLogger(__name__)

_MAX_ENTRIES = 2**16  # keeps the header of a file far below the 100 MB that safetensors accepts


class Located(NamedTuple):
    """An entry as it lies in a file of this machine: byte range, xxh3-64 of the range, and what is in it."""

    path: Path
    begin: int
    size: int
    xxh3: int
    layout: Layout


class Store:
    """What a folder of segments holds at the moment it is opened (`refresh` looks again). Safe to read from several threads.

    Args:
        folder: here, created by the first writer; or a Place elsewhere, which is read only.
        memory_bytes: entries that were read stay in memory up to this size, so a small set is read from disk once.
        skip_broken: leave out segments that cannot be opened, with a warning, as if their entries were not here.
    """

    def __init__(self, folder: str | Path | Place, *, memory_bytes: int = 0, skip_broken: bool = False) -> None:
        self.place, self._budget, self._skip_broken = place_of(folder), memory_bytes, skip_broken
        self._lock = threading.Lock()
        self._memory: dict[str, dict[str, Tensor]] = {}
        self._coming = Coming(self._load)
        self.refresh()

    @property
    def folder(self) -> Path:
        """Where entries are written. Raises DataError for a store elsewhere."""
        return local_folder(self.place)

    def refresh(self) -> None:
        """Read the index of every segment. Raises DataError when one is broken."""
        names = self.place.names("*.safetensors")
        self._segments: list[Segment] = [segment for segment in self.place.map(self._open, names) if segment]
        parts = [segment.entries for segment in self._segments]
        entries = np.concatenate(parts) if parts else np.empty(0, dtype=ENTRY)
        owners = np.repeat(np.arange(len(parts), dtype=np.uint32), [len(part) for part in parts])
        order = np.argsort(entries["address"], kind="stable")
        self._entries, self._owners = entries[order], owners[order]
        self._addresses = np.ascontiguousarray(self._entries["address"])

    def _open(self, name: str) -> Segment | None:
        try:
            return open_segment(self.folder / name) if self.place.local else fetch_segment(self.place, name)
        except DataError as error:
            if not self._skip_broken or isinstance(error, OutOfReach):
                raise
            log.warning("a file of the cache is left out: %s (%s)", error.what, error.where)
            return None

    def __len__(self) -> int:
        """Distinct addresses."""
        return len(np.unique(self._addresses))

    def __contains__(self, address: str) -> bool:
        return not self.missing([address])

    @property
    def bytes(self) -> int:
        return sum(self.place.size(segment.path.name) or 0 for segment in self._segments)

    def missing(self, addresses: Iterable[str]) -> list[str]:
        """Those of `addresses` that are not here, each once, in order."""
        wanted = list(dict.fromkeys(addresses))
        if not len(self._addresses):
            return wanted
        keys = np.array([raw(address) for address in wanted], dtype="S16")
        rows = np.minimum(np.searchsorted(self._addresses, keys), len(self._addresses) - 1)
        return [wanted[i] for i in np.flatnonzero(self._addresses[rows] != keys)]

    def get(self, address: str) -> dict[str, Tensor]:
        """The tensors of an address, not to be written to. Raises DataError when it is not here or its bytes are not as written."""
        if (known := self._memory.get(address)) is not None:
            return known
        return self._load(address) if self.place.local else self._coming.get(address)

    def fetch(self, addresses: Iterable[str]) -> None:
        """Start reading entries that will be wanted soon, many at once, where each waits for a network; a local store does nothing.
        What is wrong with one raises when it is got."""
        if self.place.pool:
            self._coming.start((a for a in addresses if a not in self._memory), self.place.pool)

    def locate(self, address: str) -> Located | None:
        """Where the bytes of an address lie, for a reader that has a place for them; None where `get` serves it better: it lies
        elsewhere, is in memory, or will be once it was read. Raises DataError when it is not here."""
        if address in self._memory or not self.place.local:
            return None
        row = self._row(address)
        segment = self._segments[self._owners[row]]
        _, begin, size, layout, xxh3 = self._entries[row].item()
        return Located(segment.path, begin, size, xxh3, segment.layouts[layout]) if size > self._budget else None

    def layout(self, address: str) -> Layout:
        """Names, dtypes and shapes of what is in an entry, out of the index alone: nothing is read, here or elsewhere. Raises
        DataError when it is not here."""
        row = self._row(address)
        return self._segments[self._owners[row]].layouts[int(self._entries[row]["layout"])]

    def _row(self, address: str) -> int:
        wanted = raw(address).rstrip(b"\0")  # as numpy compares them
        row = int(np.searchsorted(self._addresses, np.bytes_(wanted)))
        if row == len(self._addresses) or self._addresses[row] != wanted:
            raise DataError(
                f"entry {address} is not in the cache", where=str(self.place), do="run the verb 'cache' again"
            )
        return row

    def _load(self, address: str) -> dict[str, Tensor]:
        row = self._row(address)
        tensors = self._read(self._segments[self._owners[row]], self._entries[row])
        self._remember(address, tensors, int(self._entries[row]["size"]))
        return tensors

    def _read(self, segment: Segment, entry: np.void) -> dict[str, Tensor]:
        name, begin, size = segment.path.name, int(entry["begin"]), int(entry["size"])

        def check(data: bytes) -> None:
            if xxhash.xxh3_64_intdigest(data) != int(entry["xxh3"]):
                raise DataError(
                    f"entry {_hex(entry)} of the cache is not what was written", where=self.place.where(name),
                    do="delete this file and run 'cache' again: only what was in it is encoded anew",
                )  # fmt: skip

        data = self.place.read_range(name, begin, size, check=check)
        return tensors_of(data, segment.layouts[int(entry["layout"])])

    def _remember(self, address: str, tensors: dict[str, Tensor], size: int) -> None:
        with self._lock:
            if size <= self._budget and address not in self._memory:
                self._budget -= size
                self._memory[address] = tensors

    def prune(self, keep: set[str]) -> tuple[int, int]:
        """Drop every entry whose address is not in `keep`: (entries dropped, bytes freed). Needs the store to itself."""
        before, entries_before = self.bytes, len(self)
        for segment in self._segments:
            alive = [entry for entry in segment.entries if _hex(entry) in keep]
            if len(alive) == len(segment.entries):
                continue
            with StoreWriter(self.folder) as writer:  # on disk before the old segment goes
                for entry in alive:
                    writer.add(_hex(entry), self._read(segment, entry))
            segment.path.unlink()
            index_path(segment.path).unlink(missing_ok=True)
        self._memory.clear()
        self.place.close()
        self.refresh()
        return entries_before - len(self), before - self.bytes


def _hex(entry: np.void) -> str:
    return bytes(entry["address"]).ljust(16, b"\0").hex()  # numpy strips zero bytes from the end


class StoreWriter:
    """Appends entries to a store in segments of its own. Entries are on disk after `flush`, which also runs on leaving.

    Args:
        segment_bytes: a segment is written when it holds this much, and
        segment_seconds: when its first entry is this old, so that a killed run loses little. Use it as a context.
    """

    def __init__(self, folder: Path, *, segment_bytes: int = 256 * 2**20, segment_seconds: float = 300.0) -> None:
        self.folder, self._limit, self._seconds = Path(folder), segment_bytes, segment_seconds
        self._name, self._number = uuid.uuid4().hex[:12], 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._writing: Future[Segment] | None = None
        self._clear()

    def _clear(self) -> None:
        self._items: dict[str, dict[str, Tensor]] = {}
        self._size, self._since = 0, time.monotonic()

    def add(self, address: str, tensors: Mapping[str, Tensor]) -> int:
        """Queue one entry; floating tensors are rounded to bfloat16, others keep their type. Returns its bytes."""
        if not self._items:
            self._since = time.monotonic()
        entry = {
            n: t.detach().to("cpu", torch.bfloat16 if t.is_floating_point() else t.dtype) for n, t in tensors.items()
        }
        size = sum(tensor.numel() * tensor.element_size() for tensor in entry.values())
        self._items[address] = entry
        self._size += size
        old = time.monotonic() - self._since > self._seconds
        if self._size >= self._limit or len(self._items) >= _MAX_ENTRIES or old:
            self._hand_over()
        return size

    def _hand_over(self) -> None:
        """Write what is queued in the background: whoever encodes need not wait for the disk, unless it is a segment ahead."""
        if self._writing:
            self._writing.result()
        if self._items:
            path = self.folder / f"{self._name}-{self._number:05d}.safetensors"
            self._writing = self._thread.submit(write_segment, path, self._items)
            self._number += 1
            self._clear()

    def flush(self) -> None:
        """Return when everything that was added is on disk."""
        self._hand_over()
        if self._writing:
            self._writing.result()

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._thread:
            if not isinstance(
                error, OSError
            ):  # what is encoded is right whatever else failed, but the disk may be full
                self.flush()

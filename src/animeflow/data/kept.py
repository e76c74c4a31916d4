"""Copies of byte ranges that were fetched once, in a local folder of bounded size. Knows files; knows no network.

Only ranges that are checked by hash on every read are kept here, so a copy that rots, or is of an older file of the same name, is
fetched again and never believed. Processes of one machine may share the folder.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import uuid
from pathlib import Path

from ..core import files

log = logging.getLogger(__name__)


class KeptRanges:
    """The copies in `folder`: the longest unused go when they hold more than `limit_bytes`.

    A full or failing disk is bypassed with one warning; what is there is still read.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder, self.limit_bytes = Path(folder), limit_bytes
        self._lock, self._written, self._writes = threading.Lock(), 0, True
        self._settle()

    def read(self, url: str, start: int, size: int) -> bytes | None:
        """The copy of a range; None where there is none."""
        path = self._path(url, start, size)
        try:
            data = path.read_bytes()
            os.utime(path)  # the time of its last use is its place in the order of eviction
        except OSError:
            return None
        return data if len(data) == size else None

    def write(self, url: str, start: int, data: bytes) -> None:
        """Keep a range. Not flushed to disk: a copy that a power cut broke fails its check and is fetched again."""
        if not self._writes or len(data) > self.limit_bytes // 4:
            return
        path = self._path(url, start, len(data))
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(data)
            os.replace(temporary, path)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            self._stop(error)
            return
        with self._lock:
            self._written += len(data)
            due = self._written > self.limit_bytes // 16
            self._written = 0 if due else self._written
        if due:
            self._settle()

    def drop(self, url: str, start: int, size: int) -> None:
        """Forget a copy that failed its check."""
        with contextlib.suppress(OSError):
            self._path(url, start, size).unlink(missing_ok=True)

    def _path(self, url: str, start: int, size: int) -> Path:
        name = files.address(url=url, start=start, size=size)
        return self.folder / name[:2] / name[2:]

    def _settle(self) -> None:
        """Delete the longest unused copies until the rest leaves room for what is written before the next look."""
        found = []
        for path in self.folder.glob("??/*"):
            with contextlib.suppress(OSError):  # another process evicts too
                facts = path.stat()
                found.append((facts.st_mtime_ns, facts.st_size, path))
        held = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if held <= self.limit_bytes * 15 // 16:
                break
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            held -= size

    def _stop(self, error: OSError) -> None:
        with self._lock:
            first, self._writes = self._writes, False
        if first:
            log.warning("no more copies are kept in %s, the store is read directly: %s", self.folder, error.strerror)

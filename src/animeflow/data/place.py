"""A folder that is read, here or elsewhere: whole files, byte ranges, sizes, names. Knows bytes and errors; knows no format.

Whoever reads gives the check of its bytes along: a store elsewhere is asked again when they are not those that were written, for a
proxy may have cut or mixed them; a local disk is believed at once.
"""

from __future__ import annotations

import errno
import json
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ..core.errors import DataError

if TYPE_CHECKING:
    from .remote import Remote

In = TypeVar("In")
Out = TypeVar("Out")
Check = Callable[[bytes], None]
"""Raises DataError when bytes are not those that were written."""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_BROKEN = {errno.ENOENT, errno.EIO, errno.ESTALE, errno.EINVAL, errno.ENOTDIR, errno.EISDIR, errno.EFBIG}


class OutOfReach(DataError):
    """Nothing is wrong with what was written, but it cannot be got at: the store does not answer, or refuses. Never a reason to
    take another picture; a run that stops by it goes on where it was when the store is back."""


@dataclass
class Traffic:
    """What was asked of a store elsewhere so far, in this process."""

    requests: int = 0
    retries: int = 0
    seconds_waited: float = 0.0
    bytes: int = 0
    kept: int = 0  # ranges that came out of the local copies


class Place(Protocol):
    """A folder to read from. Safe to use from several threads; names are relative, with `/`."""

    @property
    def local(self) -> bool: ...

    @property
    def traffic(self) -> Traffic: ...

    @property
    def pool(self) -> Executor | None:
        """Threads that wait for the network; None where there is none to wait for."""
        ...

    def __truediv__(self, name: str) -> Place: ...

    def where(self, name: str = "") -> str:
        """The file as a message names it."""
        ...

    def size(self, name: str) -> int | None:
        """Bytes of a file; None where there is none. Raises OutOfReach."""
        ...

    def names(self, pattern: str) -> list[str]:
        """Files directly in this folder, sorted. A folder that is not there has none."""
        ...

    def read_bytes(self, name: str, *, check: Check | None = None) -> bytes:
        """Raises DataError, naming the file, when it is missing or fails the check; OutOfReach when it cannot be got at."""
        ...

    def read_range(self, name: str, start: int, size: int, *, check: Check | None = None) -> bytes:
        """Exactly `size` bytes. Raises as `read_bytes` does, also when the file ends too early."""
        ...

    def map(self, function: Callable[[In], Out], items: Iterable[In]) -> list[Out]:
        """Results in order; many at once where each waits for a network."""
        ...

    def close(self) -> None:
        """Let go of files, and end every wait for a store that does not answer."""
        ...


def is_url(where: str | Path) -> bool:
    """Whether this names a store elsewhere (`s3://`, `https://`, ...) and not a folder of this machine."""
    return isinstance(where, str) and bool(_URL.match(where)) and not where.startswith("file://")


def place_of(where: str | Path | Place, remote: Remote | None = None) -> Place:
    """The folder that a path or an fsspec URL names; `remote` says how a store elsewhere is asked."""
    if isinstance(where, Path):
        return Folder(where)
    if not isinstance(where, str):
        return where
    if not is_url(where):
        return Folder(Path(where.removeprefix("file://")))
    from .remote import open_remote

    return open_remote(where, remote)


def read_json(place: Place, name: str) -> Any:
    """The value of a JSON file. Raises DataError, naming it, when it is missing or broken."""
    values = []

    def check(data: bytes) -> None:
        try:
            values.append(json.loads(data))
        except ValueError as error:
            raise DataError(f"a JSON file cannot be read: {error}", where=place.where(name)) from error

    place.read_bytes(name, check=check)
    return values[-1]


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
            raise _failed(error, path, "opened") from error
        try:
            data = os.pread(handle, size, offset)
            while 0 < len(data) < size and (more := os.pread(handle, size - len(data), offset + len(data))):
                data += more
        except OSError as error:
            raise _failed(error, path, "read") from error
        finally:
            os.close(handle)
        if len(data) != size:
            raise ends_early(str(path), offset, size, len(data))
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


class Folder:
    """A folder of this machine, read by position from files that stay open."""

    local, pool = True, None
    traffic = Traffic()  # nothing is asked of anybody

    def __init__(self, path: Path, files: OpenFiles | None = None) -> None:
        self.path, self.files = Path(path), files or OpenFiles()

    def __truediv__(self, name: str) -> Place:
        return Folder(self.path / name, self.files)

    def __str__(self) -> str:
        return str(self.path)

    def where(self, name: str = "") -> str:
        return str(self.path / name)

    def size(self, name: str) -> int | None:
        path = self.path / name
        return path.stat().st_size if path.is_file() else None

    def names(self, pattern: str) -> list[str]:
        return sorted(path.name for path in self.path.glob(pattern))

    def read_bytes(self, name: str, *, check: Check | None = None) -> bytes:
        try:
            data = (self.path / name).read_bytes()
        except OSError as error:
            raise _failed(error, self.path / name, "read") from error
        if check:
            check(data)
        return data

    def read_range(self, name: str, start: int, size: int, *, check: Check | None = None) -> bytes:
        data = self.files.read(self.path / name, start, size)
        if check:
            check(data)
        return data

    def map(self, function: Callable[[In], Out], items: Iterable[In]) -> list[Out]:
        return [function(item) for item in items]

    def close(self) -> None:
        self.files.close()


def local_folder(place: Place) -> Path:
    """The folder of a place on this machine. Raises DataError for one elsewhere."""
    if not isinstance(place, Folder):
        raise DataError("a store elsewhere is only read", where=str(place), do="write into a local folder and copy it")
    return place.path


def ends_early(where: str, start: int, size: int, came: int) -> DataError:
    return DataError(f"the file ends early: {size} bytes at {start} were asked for, {came} are there", where=where)


def _failed(error: OSError, path: Path, what: str) -> DataError:
    kind = DataError if error.errno in _BROKEN else OutOfReach  # no rights, no handles left: no fault of the file
    return kind(f"the file cannot be {what}: {error.strerror}", where=str(path))

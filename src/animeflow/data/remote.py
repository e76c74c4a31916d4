"""A folder elsewhere, by any protocol of fsspec: `s3://`, `gs://`, `https://`, ... Knows byte ranges; knows no format.

What comes has the length that was asked for and passes the reader's check, or it is asked for again, so neither a cut answer nor
one of another range can reach a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TypeVar
from urllib.parse import unquote

from ..core.errors import ConfigError, DataError, MissingExtra, did_you_mean
from .connection import Connection, Remote
from .place import Check, Place, Traffic, ends_early

__all__ = ["Connection", "Remote", "RemoteFolder", "open_remote"]

In = TypeVar("In")
Out = TypeVar("Out")


def open_remote(url: str, remote: Remote | None = None) -> RemoteFolder:
    """Raises MissingExtra when the package of this protocol is not installed, ConfigError when nobody knows it."""
    import fsspec

    remote, protocol = remote or Remote(), url.split("://")[0].lower()
    options = dict(remote.options)
    if protocol in ("s3", "s3a"):  # its own limit is ten
        options["config_kwargs"] = {"max_pool_connections": remote.connections} | dict(options.get("config_kwargs", {}))
    try:
        filesystem, root = fsspec.core.url_to_fs(url.rstrip("/"), **options)
    except ImportError as error:
        raise MissingExtra(
            f"{protocol}:// needs a package that is not installed: {error}", where=url,
            do="pip install 'animeflow[remote]'",
        ) from error  # fmt: skip
    except ValueError as error:
        known = fsspec.available_protocols()
        raise ConfigError(
            f"{protocol}:// cannot be opened{did_you_mean(protocol, known) if protocol not in known else ''}: {error}",
            where=url, do="use s3://, gs://, https:// or a folder",
        ) from error  # fmt: skip
    return RemoteFolder(Connection(filesystem, remote), root.rstrip("/"), url.rstrip("/"))


class RemoteFolder:
    """A folder of a store elsewhere."""

    local = False

    def __init__(self, connection: Connection, root: str, url: str) -> None:
        self.connection, self._root, self._url = connection, root, url
        self._sizes: dict[str, int] = {}  # what the last listing said

    @property
    def traffic(self) -> Traffic:
        with self.connection._lock:
            return replace(self.connection.traffic)

    @property
    def retries(self) -> int:
        return self.traffic.retries

    @property
    def seconds_waited(self) -> float:
        return self.traffic.seconds_waited

    @property
    def pool(self) -> Executor:
        return self.connection.pool

    def __truediv__(self, name: str) -> Place:
        return RemoteFolder(self.connection, f"{self._root}/{name}", f"{self._url}/{name}")

    def __str__(self) -> str:
        return self._url

    def where(self, name: str = "") -> str:
        return f"{self._url}/{name}" if name else self._url

    def size(self, name: str) -> int | None:
        if name in self._sizes:
            return self._sizes[name]
        try:
            return self.connection.ask(self.where(name), "info", self._path(name), judge=lambda facts: facts["size"])
        except FileNotFoundError:
            return None

    def names(self, pattern: str) -> list[str]:
        self.connection.filesystem.invalidate_cache()
        try:
            rows = self.connection.ask(self.where(), "ls", f"{self._root}/", detail=True, judge=list)
        except FileNotFoundError:
            return []
        found = {unquote(row["name"].rstrip("/").rsplit("/", 1)[-1]): row for row in rows if row["type"] == "file"}
        self._sizes = {name: int(row["size"]) for name, row in found.items() if row.get("size") is not None}
        return sorted(name for name in found if fnmatchcase(name, pattern))

    def read_bytes(self, name: str, *, check: Check | None = None) -> bytes:
        return self._read(name, {}, self.size(name), 0, check)

    def read_range(self, name: str, start: int, size: int, *, check: Check | None = None) -> bytes:
        if not size:
            return b""
        if check and self.connection.kept and (data := self._kept(name, start, size, check)) is not None:
            return data
        data = self._read(name, {"start": start, "end": start + size}, size, start, check)
        if check and self.connection.kept:
            self.connection.kept.write(self.where(name), start, data)
        return data

    def _read(self, name: str, limits: dict[str, int], size: int | None, start: int, check: Check | None) -> bytes:
        def judge(data: bytes) -> bytes:
            self.connection.count(bytes=len(data))
            if size is not None and len(data) != size:
                raise ends_early(self.where(name), start, size, len(data))
            if check:
                check(data)
            return data

        try:
            return self.connection.ask(self.where(name), "cat_file", self._path(name), judge=judge, **limits)
        except FileNotFoundError as error:
            raise DataError("the file cannot be opened: there is none", where=self.where(name)) from error

    def _kept(self, name: str, start: int, size: int, check: Check) -> bytes | None:
        kept = self.connection.kept
        assert kept is not None
        data = kept.read(self.where(name), start, size)
        if data is not None:
            try:
                check(data)
            except DataError:
                kept.drop(self.where(name), start, size)
                return None
            self.connection.count(kept=1)
        return data

    def map(self, function: Callable[[In], Out], items: Iterable[In]) -> list[Out]:
        return list(self.connection.pool.map(function, items))

    def close(self) -> None:
        self.connection.close()

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

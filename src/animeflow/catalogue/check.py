"""Is this file a picture, and what does it look like? Bytes read, hashed, decoded to the last row, screened for signs of their
origin, in worker processes. Knows files; knows no table.

A worker may die on a hostile file without taking the run along: that file is then tried alone and refused as `decoder_died`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Executor, Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

from ..core.engine import Engine
from ..image.decode import decode
from ..image.evidence.screen import measures, screened
from ..image.fingerprint import fingerprint
from ..image.picture import BadPicture, Limits
from .reading import read_file, size_and_time

CHUNK = 16
Packed = bytes  # within Checked the word is a number of them


@dataclass(frozen=True)
class Checked:
    """What the bytes of a file say. `reason` is None for a picture that can be used."""

    sha256: str
    bytes: int
    mtime_ns: int
    height: int = 0
    width: int = 0
    format: str = ""
    notes: tuple[str, ...] = ()
    reason: str | None = None
    detail: str = ""
    print: Packed = b""  # a packed Fingerprint
    signs: tuple[str, ...] = ()  # words of the Signs of its origin, strongest first
    measures: tuple[tuple[str, float], ...] = ()  # what the screen measured, for queues: ("tiled", 0.03)
    md5: str = ""  # of a picture, for records that name it; "" where an earlier version looked


def check(path: str, limits: Limits) -> Checked:
    """Read, hash and fully decode one file. Never raises for what is wrong with the file."""
    size = time = 0
    try:
        size, time = size_and_time(path)
        if size > limits.max_bytes:
            text = f"{size:,} bytes; the limit is {limits.max_bytes:,}"
            return Checked("", size, time, reason="too_large", detail=text)
        data = read_file(path)
    except OSError as error:
        reason = "missing_picture" if isinstance(error, FileNotFoundError) else "unreadable"
        return Checked("", size, time, reason=reason, detail=error.strerror or type(error).__name__)
    digest = hashlib.sha256(data).hexdigest()
    try:
        picture = decode(data, limits=limits)
    except BadPicture as bad:
        return Checked(digest, len(data), time, reason=bad.reason, detail=bad.detail)
    facts = picture.facts
    signs, unread = screened(data, picture, limits=limits)
    return Checked(
        digest, len(data), time, facts.height, facts.width, facts.format, facts.notes + unread,
        print=fingerprint(picture).pack(), signs=tuple(sign.word for sign in signs),
        measures=measures(picture), md5=hashlib.md5(data, usedforsecurity=False).hexdigest(),
    )  # fmt: skip


def check_all(paths: Sequence[str], limits: Limits, pool: Pool | None) -> Iterator[Checked]:
    """One Checked per path, in order. Without a pool in this process."""
    if pool is None:
        yield from (check(path, limits) for path in paths)
        return
    paths = [os.path.abspath(path) for path in paths]  # a worker may stand in another folder
    chunks = [paths[at : at + CHUNK] for at in range(0, len(paths), CHUNK)]
    while chunks:
        futures = [pool.submit(_check_chunk, chunk, limits) for chunk in chunks]
        for done, future in enumerate(futures):
            try:
                yield from _result(future)
            except BrokenProcessPool:  # the files after this chunk go to a fresh pool
                pool.close()
                yield from _one_by_one(chunks[done], limits)
                chunks = chunks[done + 1 :]
                break
        else:
            return


class Pool:
    """Workers of an engine that can be started again after one died. Use as a context."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._executor: Executor | None = None

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, work: Callable[..., list[Checked]], *arguments: object) -> Future[list[Checked]] | None:
        """A future, or None when the pool is broken."""
        if self._executor is None:
            self._executor = self.engine.executor()
        try:
            return self._executor.submit(work, *arguments)
        except BrokenProcessPool:
            return None

    def close(self) -> None:
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)
            self._executor = None


def _check_chunk(paths: Iterable[str], limits: Limits) -> list[Checked]:
    return [check(path, limits) for path in paths]


def _result(future: Future[list[Checked]] | None) -> list[Checked]:
    try:
        if future is None:
            raise BrokenProcessPool("the pool broke before this was submitted")
        return future.result()
    except CancelledError as error:
        raise BrokenProcessPool("cancelled with the broken pool") from error


def _one_by_one(paths: Sequence[str], limits: Limits) -> Iterator[Checked]:
    """A worker died while these files were in work: each is tried alone, so that only the one that kills it is refused."""
    with Pool(Engine(workers=1)) as alone:
        for path in paths:
            try:
                yield _result(alone.submit(_check_chunk, [path], limits))[0]
            except BrokenProcessPool:
                alone.close()
                detail = "a worker process died while reading it"
                yield Checked("", *size_and_time(path), reason="decoder_died", detail=detail)

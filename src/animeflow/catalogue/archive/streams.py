"""Bytes out of part of a file, and out of compressed bytes, never more at once than asked for. Knows zlib, bz2 and lzma; knows no
archive."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import BinaryIO, Protocol

from .caps import BadMember, Caps
from .member import Stream

BLOCK = 64 * 1024
SIP = 8 * 1024  # of compressed bytes at once: what is swallowed before a bomb is noticed


class Window:
    """`size` bytes of a file from `start`, after the bytes `prefix`."""

    def __init__(self, file: BinaryIO, start: int, size: int, *, prefix: bytes = b"") -> None:
        self.file, self.at, self.left, self.prefix = file, start, size, prefix

    def read(self, size: int, /) -> bytes:
        if self.prefix:
            given, self.prefix = self.prefix[:size], self.prefix[size:]
            return given
        self.file.seek(self.at)
        data = self.file.read(min(size, self.left))
        if self.left and size and not data:
            raise BadMember("truncated", f"the archive ends {self.left:,} bytes before this member does")
        self.at, self.left = self.at + len(data), self.left - len(data)
        return data


class Chain:
    """Streams one after the other."""

    def __init__(self, streams: list[Window]) -> None:
        self.streams = streams

    def read(self, size: int, /) -> bytes:
        while self.streams:
            if data := self.streams[0].read(size):
                return data
            self.streams.pop(0)
        return b""


class Decompressor(Protocol):
    """What bz2 and lzma have, and `Deflate` gives to zlib."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class Deflate:
    """zlib in the manner of bz2 and lzma."""

    def __init__(self, bits: int) -> None:
        self._zlib, self.needs_input = zlib.decompressobj(bits), True

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        given = self._zlib.decompress(self._zlib.unconsumed_tail + data, max_length)
        # A full answer may have left bytes inside zlib though no input is left over.
        self.needs_input = not self._zlib.unconsumed_tail and len(given) < max_length
        return given


def raw_deflate() -> Decompressor:
    return Deflate(-zlib.MAX_WBITS)


def decompressor(start: bytes, caps: Caps) -> Callable[[], Decompressor] | None:
    """What reads a stream that begins so; None for one that is not compressed."""
    if start.startswith(b"\x1f\x8b"):
        return lambda: Deflate(zlib.MAX_WBITS | 16)
    if start.startswith(b"\xfd7zXZ\0"):
        return lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=caps.max_dictionary_bytes)
    if start.startswith(b"BZh"):
        return bz2.BZ2Decompressor
    return None


class Inflated:
    """What comes out of a compressed stream. Bombs are stopped as they go off: by ratio, and by `limit` bytes in all.

    Args:
        many: several streams may follow each other, as gzip's do.
    """

    def __init__(
        self, source: Stream, make: Callable[[], Decompressor], caps: Caps, *, limit: int, many: bool = False
    ) -> None:
        self.source, self.make, self.caps, self.limit, self.many = source, make, caps, limit, many
        self.engine, self.pending = make(), b""
        self.taken, self.given, self.begun = 0, 0, False

    def read(self, size: int, /) -> bytes:
        try:
            return self._read(size)
        except (zlib.error, lzma.LZMAError, OSError, EOFError, MemoryError) as error:
            if isinstance(error, lzma.LZMAError) and "limit" in str(error).lower():
                raise BadMember(
                    "bomb", f"it asks for over {self.caps.max_dictionary_bytes:,} bytes of memory"
                ) from error
            raise BadMember("unreadable", f"broken compressed data: {str(error)[:120]}") from error

    def _read(self, size: int) -> bytes:
        while True:
            if self.engine.eof and not self._next_stream():
                return b""
            block = self.pending
            self.pending = b""
            if self.engine.needs_input and not block:
                block = self.source.read(SIP)
                self.taken += len(block)
                if not block and not self.begun:
                    return b""
            data = self.engine.decompress(block, min(size, BLOCK))
            self.begun = True
            if data:
                return self._counted(data)
            if not block and not self.engine.eof and self.engine.needs_input:
                raise BadMember("truncated", "its compressed data ends too early")

    def _next_stream(self) -> bool:
        if not self.many:
            return False
        rest = self.engine.unused_data
        if not rest:
            rest = self.source.read(SIP)
            self.taken += len(rest)
        rest = rest.lstrip(b"\0")  # gzip's padding
        if not rest:
            return False
        self.engine, self.pending = self.make(), rest
        return True

    def _counted(self, data: bytes) -> bytes:
        self.given += len(data)
        if self.given > self.limit:
            raise BadMember("too_large", f"over {self.limit:,} bytes come out of it")
        if self.given > self.caps.ratio_from and self.given > self.caps.max_ratio * max(1, self.taken):
            raise BadMember(
                "bomb", f"{self.taken:,} bytes make over {self.given:,}, more than {self.caps.max_ratio} to 1"
            )
        return data


def read_up_to(stream: Stream, size: int) -> bytes:
    """As many bytes as there are, at most `size`."""
    parts, left = [], size
    while left > 0 and (data := stream.read(min(left, BLOCK))):
        parts.append(data)
        left -= len(data)
    return b"".join(parts)

"""Tar archives, plain or inside gzip, bzip2 or xz. Knows headers of 512 bytes; keeps regular files only.

Read by hand and from front to back, since long names are data of the archive and have to be bounded like any other.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from .caps import BadMember, BrokenArchive, Caps
from .member import Member, Stream
from .streams import BLOCK, Inflated, Window, decompressor

RECORD = 512
REGULAR = (b"\x00", b"0", b"7")  # the last is an old name for the same
OTHERS = {b"1": "a link", b"2": "a link", b"3": "a device", b"4": "a device", b"6": "a pipe", b"S": "a sparse file"}
MAX_NAME_RECORD = 1024 * 1024


class TarArchive:
    """The files of a tar, in its order. Raises BrokenArchive on the way where a header is none."""

    def __init__(self, path: Path, caps: Caps) -> None:
        self.path, self.caps = path, caps
        self.count: int | None = None
        with open(path, "rb") as file:
            start = file.read(8)
        self._packed = decompressor(start, caps)
        self.kind = "tar" if self._packed is None else "tar." + {0x1F: "gz", 0xFD: "xz", 0x42: "bz2"}[start[0]]

    def __iter__(self) -> Iterator[Member]:
        with open(self.path, "rb") as file:
            stream: Stream = Window(file, 0, self.path.stat().st_size)
            if self._packed is not None:
                stream = Inflated(stream, self._packed, self.caps, limit=self.caps.max_total_bytes, many=True)
            walk = _Walk(stream, self.caps, str(self.path))
            yield from walk.members()


class _Walk:
    """From header to header."""

    def __init__(self, stream: Stream, caps: Caps, where: str) -> None:
        self.stream, self.caps, self.where = stream, caps, where
        self.left = self.padding = 0  # of the member in work

    def members(self) -> Iterator[Member]:
        name: str | None = None  # from a record before the member
        size: int | None = None
        number = 0
        while (header := self._header()) is not None:
            kind = header[156:157]
            length = _number(header[124:136])
            if kind in (b"L", b"K", b"x", b"g"):
                record = self._record(length)
                if kind == b"L":
                    name = _text(record.rstrip(b"\0"))
                elif kind == b"x":
                    facts = _pax(record)
                    name = _text(facts[b"path"]) if b"path" in facts else name
                    size = _whole(facts[b"size"]) if b"size" in facts else size
                continue
            self.left = size if size is not None else length
            self.padding = -self.left % RECORD
            number += 1
            if number > self.caps.max_members:
                raise self._broken(f"it names over {self.caps.max_members:,} files")
            yield from self._member(name if name is not None else _name(header), kind)
            name = size = None
            self._pass_over()

    def _member(self, name: str, kind: bytes) -> Iterator[Member]:
        if kind == b"5" or (kind == b"\x00" and name.endswith("/")):
            return
        if kind not in REGULAR:
            reason = "link" if kind in (b"1", b"2") else "not_regular"
            yield Member(name, reason=reason, detail=OTHERS.get(kind, "no regular file"))
        elif self.left > self.caps.max_member_bytes:
            yield Member(
                name, reason="too_large", detail=f"{self.left:,} bytes; the limit is {self.caps.max_member_bytes:,}"
            )
        else:
            yield Member(name, open=partial(_Part, self))

    def take(self, size: int) -> bytes:
        """Of the member in work."""
        if not self.left or not size:
            return b""
        data = self._take(min(size, self.left))
        if not data:
            raise BadMember("truncated", f"the archive ends {self.left:,} bytes before this member does")
        self.left -= len(data)
        return data

    def _take(self, size: int) -> bytes:
        return self.stream.read(size)

    def _pass_over(self) -> None:
        self.left += self.padding
        try:
            while self.left:
                self.take(BLOCK)
        except BadMember as bad:
            raise self._broken("it is cut or broken inside", why=bad.detail) from bad

    def _exactly(self, size: int) -> bytes:
        parts = []
        try:
            while size and (data := self._take(size)):
                parts.append(data)
                size -= len(data)
        except BadMember as bad:
            raise self._broken("it is cut or broken inside", why=bad.detail) from bad
        return b"".join(parts)

    def _record(self, length: int) -> bytes:
        if length > MAX_NAME_RECORD:
            raise self._broken(f"a name of {length:,} bytes", why="no file has one as long")
        data = self._exactly(length + -length % RECORD)
        if len(data) < length:
            raise self._broken("it is cut inside a name")
        return data[:length]

    def _header(self) -> bytes | None:
        header = self._exactly(RECORD)
        if not header or header == bytes(RECORD):
            return None
        if len(header) < RECORD:
            raise self._broken("it is cut inside a header")
        if not looks_like_tar(header):
            raise self._broken("a header has a wrong checksum", why="the file is garbled, or is no tar")
        if _number(header[124:136]) < 0:
            raise self._broken("a member has a size below nothing")
        return header

    def _broken(self, what: str, *, why: str | None = None) -> BrokenArchive:
        return BrokenArchive(what, where=self.where, why=why, do="take the archive from where it was made, whole")


class _Part:
    """The bytes of the member in work."""

    def __init__(self, walk: _Walk) -> None:
        self.walk = walk

    def read(self, size: int, /) -> bytes:
        return self.walk.take(size)


def looks_like_tar(start: bytes) -> bool:
    """By its first header: tar's word, or, in files older than it, the checksum."""
    if len(start) < RECORD:
        return False
    said = start[148:156].strip(b"\0 ")
    octal = bool(said) and all(48 <= digit < 56 for digit in said)
    return octal and int(said, 8) == sum(start[:148]) + 8 * 32 + sum(start[156:RECORD])


def _number(field: bytes) -> int:
    if field[0] & 0x80:  # GNU's way for large files
        return int.from_bytes(field[1:], "big") if field[0] == 0x80 else -1
    digits = field.strip(b"\0 ")
    return int(digits, 8) if digits and all(48 <= digit < 56 for digit in digits) else 0


def _whole(text: bytes) -> int | None:
    return int(text) if text.isdigit() and len(text) < 20 else None


def _pax(record: bytes) -> dict[bytes, bytes]:
    """`LENGTH KEY=VALUE\\n` lines; what is garbled ends them."""
    facts, at = {}, 0
    while at < len(record):
        digits, space, _ = record[at : at + 12].partition(b" ")
        if not space or not digits.isdigit() or not 0 < int(digits) <= len(record) - at:
            break
        key, equals, value = record[at + len(digits) + 1 : at + int(digits)].partition(b"=")
        if equals:
            facts[key] = value.rstrip(b"\n")
        at += int(digits)
    return facts


def _name(header: bytes) -> str:
    name = header[:100].partition(b"\0")[0]
    prefix = header[345:500].partition(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    return _text(prefix + b"/" + name if prefix else name)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")

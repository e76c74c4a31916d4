"""Zip archives, those of comics (.cbz) and of pixiv's animations too. Knows the central directory; trusts no size in it.

Read by hand: the table is counted before it is built, members that share bytes are found, and nothing is inflated further than its
bounds. Encrypted members, links and rare methods are left out with a reason.
"""

from __future__ import annotations

import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from .caps import BadMember, BrokenArchive, Caps
from .member import Member, Stream, overlapping, shown
from .streams import Inflated, Window, raw_deflate

END, END64, PLACE64, ENTRY, LOCAL = b"PK\5\6", b"PK\6\6", b"PK\6\7", b"PK\1\2", b"PK\3\4"
STORED, DEFLATED = 0, 8
METHODS = {
    1: "shrink",
    6: "implode",
    9: "deflate64",
    12: "bzip2",
    14: "lzma",
    93: "zstd",
    95: "xz",
    98: "ppmd",
    99: "AES",
}
ENCRYPTED, UTF8 = 0x1, 0x800
UNIX = 3
ALL16, ALL32 = 0xFFFF, 0xFFFFFFFF


@dataclass(frozen=True)
class Entry:
    """A line of the central directory."""

    name: str
    offset: int
    packed: int
    size: int
    crc: int
    method: int
    flags: int
    link: bool


class ZipArchive:
    """The files of a zip, in its own order.

    Raises:
        BrokenArchive: the central directory is missing, cut, garbled or too large.
    """

    kind = "zip"

    def __init__(self, path: Path, caps: Caps) -> None:
        self.path, self.caps = path, caps
        self.size = path.stat().st_size
        with open(path, "rb") as file:
            try:
                self.entries = [entry for entry in self._entries(file) if not entry.name.endswith("/")]
            except (struct.error, IndexError) as error:
                raise self._broken("its table of contents is garbled", why=str(error)) from error
        self.count: int | None = len(self.entries)

    def __iter__(self) -> Iterator[Member]:
        shared = overlapping(
            (entry.offset, entry.offset + 30 + entry.packed, number) for number, entry in enumerate(self.entries)
        )
        with open(self.path, "rb") as file:
            for number, entry in enumerate(self.entries):
                try:
                    if number in shared:
                        raise BadMember("overlap", f"it shares bytes with {shown(self.entries[shared[number]].name)}")
                    self._check(entry)
                except BadMember as bad:
                    yield Member(entry.name, reason=bad.reason, detail=bad.detail)
                else:
                    yield Member(entry.name, open=partial(self._stream, file, entry))

    def _check(self, entry: Entry) -> None:
        """Raises BadMember for what is left out unopened."""
        if entry.link:
            raise BadMember("link", "a link to another file")
        if entry.flags & ENCRYPTED or entry.method == 99:
            raise BadMember("encrypted", "it needs a password; unpack the archive with the program that made it")
        if entry.method not in (STORED, DEFLATED):
            name = METHODS.get(entry.method, str(entry.method))
            raise BadMember("unsupported", f"packed with {name}; pack the archive again with plain deflate")
        if entry.size > self.caps.max_member_bytes:
            raise BadMember("too_large", f"{entry.size:,} bytes; the limit is {self.caps.max_member_bytes:,}")
        if entry.offset + 30 + entry.packed > self.size:
            raise BadMember("truncated", f"it would lie outside the {self.size:,} bytes of the archive")

    def _stream(self, file: BinaryIO, entry: Entry) -> Stream:
        file.seek(entry.offset)
        local = file.read(30)
        if len(local) < 30 or local[:4] != LOCAL:
            raise BadMember("unreadable", f"there is no member at byte {entry.offset:,}")
        if struct.unpack_from("<H", local, 6)[0] & ENCRYPTED:
            raise BadMember("encrypted", "it needs a password; unpack the archive with the program that made it")
        name, extra = struct.unpack_from("<HH", local, 26)
        window = Window(file, entry.offset + 30 + name + extra, entry.packed)
        if entry.method == STORED:
            return Checked(window, entry)
        return Checked(Inflated(window, raw_deflate, self.caps, limit=self.caps.max_member_bytes), entry)

    def _entries(self, file: BinaryIO) -> Iterator[Entry]:
        offset, size = self._directory(file)
        if size > self.caps.max_index_bytes:
            raise self._broken(f"its table of contents has {size:,} bytes; the limit is {self.caps.max_index_bytes:,}")
        file.seek(offset)
        table = file.read(size)
        at = number = 0
        while at + 46 <= len(table) and table[at : at + 4] == ENTRY:
            number += 1
            if number > self.caps.max_members:
                raise self._broken(f"it names over {self.caps.max_members:,} files")
            name, extra, comment = struct.unpack_from("<HHH", table, at + 28)
            yield _entry(table, at, name, extra)
            at += 46 + name + extra + comment
        if at != len(table):
            raise self._broken("its table of contents is cut or garbled", why=f"it can be read up to byte {at:,}")

    def _directory(self, file: BinaryIO) -> tuple[int, int]:
        """Where the table of contents is, and its size."""
        tail = min(self.size, 22 + ALL16)
        file.seek(self.size - tail)
        data = file.read(tail)
        at = data.rfind(END)
        if at < 0 or at + 22 > len(data):
            raise self._broken(
                "it has no table of contents", why="a zip has it at its end: the file is cut, or is no zip"
            )
        number, size, offset = struct.unpack_from("<10xHII", data, at)
        disk = struct.unpack_from("<H", data, at + 4)[0]
        if ALL16 in (number, disk) or ALL32 in (size, offset):
            place = data.rfind(PLACE64, 0, at)
            if place >= 0:
                wide = struct.unpack_from("<8xQ", data, place)[0]
                file.seek(min(wide, self.size))
                end = file.read(56)
                if end[:4] != END64:
                    raise self._broken(
                        "its table of contents is garbled", why="the 64-bit end record is not where it should be"
                    )
                disk = struct.unpack_from("<I", end, 16)[0]
                size, offset = struct.unpack_from("<QQ", end, 40)
        if disk not in (0, ALL16):
            raise self._broken("it is one part of several", why="the parts of a split zip are read together only")
        if offset + size > self.size:
            raise self._broken("its table of contents lies outside the file", why="the file is cut or garbled")
        return offset, size

    def _broken(self, what: str, *, why: str | None = None) -> BrokenArchive:
        return BrokenArchive(what, where=str(self.path), why=why, do="take the archive from where it was made, whole")


class Checked:
    """A member's bytes; at the end their number and checksum have to be those of the table."""

    def __init__(self, stream: Stream, entry: Entry) -> None:
        self.stream, self.entry, self.size, self.crc = stream, entry, 0, 0

    def read(self, size: int, /) -> bytes:
        data = self.stream.read(size)
        self.size, self.crc = self.size + len(data), zlib.crc32(data, self.crc)
        if self.size > self.entry.size or (not data and size and self.size != self.entry.size):
            raise BadMember(
                "unreadable", f"the table says {self.entry.size:,} bytes, and there are {'more' if data else 'fewer'}"
            )
        if not data and size and self.crc != self.entry.crc:
            raise BadMember("unreadable", "wrong checksum")
        return data


def _entry(table: bytes, at: int, name_size: int, extra_size: int) -> Entry:
    made, flags, method = struct.unpack_from("<5xB2xHH", table, at)
    crc, packed, size = struct.unpack_from("<III", table, at + 16)
    attributes, offset = struct.unpack_from("<II", table, at + 38)
    start = at + 46
    extra = table[start + name_size : start + name_size + extra_size]
    size, packed, offset = _wide(extra, size, packed, offset)
    link = made == UNIX and stat.S_ISLNK(attributes >> 16)
    name = _name(table[start : start + name_size], flags)
    return Entry(name, offset, packed, size, crc, method, flags, link)


def _wide(extra: bytes, *values: int) -> tuple[int, int, int]:
    """zip64: those of the three numbers that are all ones stand in the extra field, in order."""
    at, found = 0, list(values)
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            place = at + 4
            for number, value in enumerate(found):
                if value == ALL32:
                    found[number] = struct.unpack_from("<Q", extra, place)[0]
                    place += 8
            break
        at += 4 + size
    return found[0], found[1], found[2]


def _name(data: bytes, flags: int) -> str:
    """UTF-8 where it says so or is so; else what Japanese systems write, else what the format was born with."""
    for encoding in ("utf-8", *(() if flags & UTF8 else ("cp932", "cp437"))):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    return data.decode("utf-8", "surrogateescape")

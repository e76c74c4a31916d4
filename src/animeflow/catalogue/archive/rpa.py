"""Ren'Py archives: RPA-1 (its index in a `.rpi` beside), RPA-2.0, RPA-3.0. Knows where their bytes lie; runs nothing of them.

A line at the start says where the index is, and in RPA-3 a key that offsets and lengths are XORed with. The index is a pickled
dict, zlib-compressed: name -> list of (offset, length[, first bytes]). Ren'Py 8.0.3 counts the first bytes inside the length, later
ones do not, and no file says which of the two made it: of a picture, its own format does.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from ...image.header import sniff
from .caps import BrokenArchive, Caps
from .member import Member, Stream, overlapping, shown
from .plain_pickle import loads
from .streams import Chain, Window

HEADER_BYTES = 64
OPCODES_A_MEMBER = 16  # the archiver's own index has about ten
_V3 = re.compile(rb"RPA-3\.0 ([0-9a-fA-F]{16}) ([0-9a-fA-F]{8})[\r\n ]")
_V2 = re.compile(rb"RPA-2\.0 ([0-9a-fA-F]{16})[\r\n ]")
Segment = tuple[int, int, bytes]  # offset, length, first bytes


class RpaArchive:
    """The files of a Ren'Py archive, in the order of their names.

    Raises:
        BrokenArchive: the header is cut or of another version, or the index is none.
    """

    def __init__(self, path: Path, caps: Caps) -> None:
        self.path, self.caps = path, caps
        self.size = path.stat().st_size
        with open(path, "rb") as file:
            start = file.read(HEADER_BYTES)
        if match := _V3.match(start):
            self.kind, offset, key = "rpa-3.0", int(match[1], 16), int(match[2], 16)
        elif match := _V2.match(start):
            self.kind, offset, key = "rpa-2.0", int(match[1], 16), 0
        elif index_beside(path) is not None and not start.startswith(b"RPA-"):
            self.kind, offset, key = "rpa-1.0", 0, 0
        else:
            raise self._unknown(start)
        index = index_beside(path) if self.kind == "rpa-1.0" else path
        assert index is not None
        self.entries = self._entries(self._index(index, offset), key)
        self.count: int | None = len(self.entries)

    def __iter__(self) -> Iterator[Member]:
        wrong = self._wrong()
        with open(self.path, "rb") as file:
            for number, (name, segments) in enumerate(self.entries):
                if number in wrong:
                    yield Member(name, reason=wrong[number][0], detail=wrong[number][1])
                else:
                    prefix = segments[0][2] if len(segments) == 1 else b""
                    whole = partial(_whole, prefix=len(prefix)) if prefix else None
                    yield Member(name, open=partial(_stream, file, segments), whole=whole)

    def _unknown(self, start: bytes) -> BrokenArchive:
        version = re.match(rb"[A-Za-z]{2,4}-[!-~]{1,12}", start)
        said = version[0].decode() if version else ""
        if start.startswith((b"RPA-2.0", b"RPA-3.0")):
            return self._broken(f"its first line is garbled: {said!r}", why="it says where the index is")
        if said:
            return BrokenArchive(
                f"an archive that begins with {said!r} is not read",
                where=str(self.path),
                why="Ren'Py itself writes RPA-1, RPA-2.0 and RPA-3.0; this is somebody's own kind, of which nothing is published",
                do="ask whoever made it for the pictures",
            )
        return self._broken(
            "there is no index", why=f"an RPA-1 archive needs {self.path.with_suffix('.rpi').name} beside it"
        )

    def _broken(self, what: str, *, why: str | None = None) -> BrokenArchive:
        return BrokenArchive(what, where=str(self.path), why=why, do="take the archive from where it was made, whole")

    def _index(self, file: Path, offset: int) -> Any:
        """The dict that the index says, inflated and parsed within bounds."""
        size = file.stat().st_size
        if not 0 <= offset < size:
            raise self._broken(f"the index would be at byte {offset:,} of {size:,}", why="the file is cut or garbled")
        with open(file, "rb") as handle:
            handle.seek(offset)
            packed = handle.read(self.caps.max_index_bytes + 1)
        engine = zlib.decompressobj()
        try:
            data = engine.decompress(packed, self.caps.max_index_bytes + 1)
        except zlib.error as error:
            raise self._broken("the index cannot be inflated", why=str(error)) from error
        if len(data) > self.caps.max_index_bytes:
            raise self._broken(f"the index has over {self.caps.max_index_bytes:,} bytes", why="no game's has as many")
        if not engine.eof:
            raise self._broken("the index is cut", why="its compressed data ends too early")
        value = loads(data, where=str(file), max_opcodes=self.caps.max_members * OPCODES_A_MEMBER)
        if not isinstance(value, dict):
            raise self._broken(f"the index is a {type(value).__name__}, not a table of names")
        if len(value) > self.caps.max_members:
            raise self._broken(f"it names {len(value):,} files; the limit is {self.caps.max_members:,}")
        return value

    def _entries(self, index: dict[Any, Any], key: int) -> list[tuple[str, list[Segment]]]:
        """Names with their segments, sorted. A list that stands under many names is counted under each."""
        entries, left, firsts = [], 2 * self.caps.max_members, 0
        for name, value in index.items():
            if not isinstance(value, list):
                raise self._broken("the index is garbled: a name without a list")
            left -= len(value)
            if left < 0:
                raise self._broken(
                    f"the index has over {2 * self.caps.max_members:,} parts", why="no game's has as many"
                )
            segments = []
            for part in value:
                segments.append(self._segment(part, key))
                firsts += len(segments[-1][2])
                if firsts > self.caps.max_index_bytes:  # one text may stand at many places of a pickle
                    raise self._broken(f"the first bytes of its files are over {self.caps.max_index_bytes:,} bytes")
            entries.append((_text(name), segments))
        return sorted(entries)

    def _segment(self, part: Any, key: int) -> Segment:
        if not isinstance(part, tuple | list) or len(part) not in (2, 3):
            raise self._broken("the index is garbled: a place that is no offset and length")
        offset, length, prefix = (*part, None)[:3]
        if not isinstance(offset, int) or not isinstance(length, int):
            raise self._broken("the index is garbled: an offset or length that is no number")
        if isinstance(prefix, str):
            prefix = prefix.encode("latin-1", "replace")
        if prefix is not None and not isinstance(prefix, bytes):
            raise self._broken("the index is garbled: first bytes that are no bytes")
        return offset ^ key, length ^ key, prefix or b""

    def _wrong(self) -> dict[int, tuple[str, str]]:
        """Members that are left out: outside the file, over each other, too large."""
        wrong: dict[int, tuple[str, str]] = {}
        ranges = []
        for number, (_, segments) in enumerate(self.entries):
            size = sum(length + len(prefix) for _, length, prefix in segments)
            # Counted the old way, the last file of all would reach past the end by its first bytes.
            outside = [s for s in segments if s[0] < 0 or s[1] < 0 or s[0] + max(0, s[1] - len(s[2])) > self.size]
            if outside or not segments:
                wrong[number] = "truncated", f"it would lie outside the {self.size:,} bytes of the archive"
            elif size > self.caps.max_member_bytes:
                wrong[number] = "too_large", f"{size:,} bytes; the limit is {self.caps.max_member_bytes:,}"
            else:
                ranges += [(s[0], s[0] + max(0, s[1] - len(s[2])), number) for s in segments]
        for number, other in overlapping(ranges).items():
            wrong[number] = "overlap", f"it shares bytes with {shown(self.entries[other][0])}"
        return wrong


def index_beside(path: Path) -> Path | None:
    """The `.rpi` of an RPA-1 archive."""
    index = path.with_suffix(".rpi")
    return index if index.is_file() and index != path else None


def _text(name: Any) -> str:
    if isinstance(name, bytes):
        try:
            return name.decode()
        except UnicodeDecodeError:
            return name.decode("latin-1")
    return str(name)


def _stream(file: BinaryIO, segments: list[Segment]) -> Stream:
    return Chain([Window(file, offset, length, prefix=prefix) for offset, length, prefix in segments])


def _whole(data: bytes, *, prefix: int) -> bytes:
    """`data` has `prefix` bytes too many if its length counted them: so where only the shorter ends as its format does."""
    shorter = data[: len(data) - prefix]
    return shorter if _ends_well(shorter) and not _ends_well(data) else data


def _ends_well(data: bytes) -> bool:
    kind = sniff(data[:32])
    if kind == "PNG":
        return data[-12:-4] == b"\0\0\0\0IEND"
    if kind == "WEBP":
        size = 8 + int.from_bytes(data[4:8], "little")
        return len(data) in (size, size + (size & 1))
    if kind == "BMP":
        return len(data) == int.from_bytes(data[2:6], "little")
    return data.endswith({"JPEG": b"\xff\xd9", "GIF": b"\x3b"}.get(kind or "", b"\0none"))

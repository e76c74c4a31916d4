"""Strings of an EXIF structure, read by hand and bounded. Knows TIFF's directories; judges nothing."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from .places import utf8

USER_COMMENT = 0x9286
XMP, C2PA = 0x02BC, 0xCD41  # in TIFF files
EXIF_DIRECTORY = 0x8769
NAMES = {0x010E: "description", 0x010F: "make", 0x0110: "model", 0x0131: "software", USER_COMMENT: "usercomment"}
BYTES, ASCII, LONG, UNDEFINED, UTF8 = 1, 2, 4, 7, 129
MAX_ENTRIES = 1024  # of all directories together
MAX_VALUES = 16 * 1024 * 1024  # bytes of all values together: entries may point at the same bytes again and again
MAX_DIRECTORIES = 4


def values(blob: bytes) -> Iterator[tuple[int, bytes]]:
    """(tag, bytes) of everything that may be text, in the first directory and in EXIF's own."""
    order = {b"II": "<", b"MM": ">"}.get(blob[:2])
    if order is None:
        return
    waiting, seen = [struct.unpack_from(order + "I", blob, 4)[0]], set[int]()
    entries, left = MAX_ENTRIES, MAX_VALUES
    while waiting and len(seen) < MAX_DIRECTORIES:
        directory = waiting.pop(0)
        if directory in seen or directory + 2 > len(blob):
            continue
        seen.add(directory)
        count = struct.unpack_from(order + "H", blob, directory)[0]
        for entry in range(directory + 2, directory + 2 + 12 * count, 12):
            if entry + 12 > len(blob) or entries == 0:
                break
            entries -= 1
            tag, kind, length = struct.unpack_from(order + "HHI", blob, entry)
            if tag == EXIF_DIRECTORY and kind == LONG:
                waiting.append(struct.unpack_from(order + "I", blob, entry + 8)[0])
            elif kind in (BYTES, ASCII, UNDEFINED, UTF8) and length > 4:
                start = struct.unpack_from(order + "I", blob, entry + 8)[0]
                value = blob[start : start + min(length, left)]
                left -= len(value)
                yield tag, value


def texts(tag: int, value: bytes) -> list[str]:
    """What a value may say. A UserComment in UTF-16 does not tell its byte order, so both are given."""
    if tag != USER_COMMENT:
        return [utf8(value.rstrip(b"\0"))]
    code, rest = value[:8], value[8:]
    if code == b"UNICODE\0":
        return [rest.decode("utf-16-be", "replace"), rest.decode("utf-16-le", "replace"), utf8(rest)]
    if code in (b"ASCII\0\0\0", b"JIS\0\0\0\0\0", bytes(8)):
        return [utf8(rest.rstrip(b"\0"))]
    return [utf8(value.rstrip(b"\0"))]

"""The places of a JPEG: EXIF, XMP with its extension, comments, and C2PA put together from its segments. Judges nothing."""

from __future__ import annotations

import re
import struct
from collections import defaultdict
from collections.abc import Iterator

from .places import Places, utf8

EXIF = b"Exif\0\0"
XMP = b"http://ns.adobe.com/xap/1.0/\0"
MORE_XMP = b"http://ns.adobe.com/xmp/extension/\0"
ALONE = frozenset({0x01, *range(0xD0, 0xD8)})
MAX_SEGMENTS = 20_000
# In the coded picture FF is followed by 00, RST or FF, so these stand only where a segment begins (or inside another segment,
# where the words that each kind begins with tell).
LATER = re.compile(rb"\xff[\xe1\xeb\xfe]")


def read(data: bytes, places: Places) -> None:
    """Every segment of the header, and those between the scans and after them."""
    boxes: dict[bytes, dict[int, bytes]] = defaultdict(dict)
    more: dict[int, bytes] = {}
    for marker, start, length in _segments(data):
        if marker == 0xE1 and data.startswith(EXIF, start):
            places.exif.append(places.take(data, start + len(EXIF), length - len(EXIF)))
        elif marker == 0xE1 and data.startswith(XMP, start):
            places.xmp.append(places.take(data, start + len(XMP), length - len(XMP)))
        elif marker == 0xE1 and data.startswith(MORE_XMP, start):
            head = start + len(MORE_XMP) + 32  # of a digest, then the whole length and the place of this part
            more[struct.unpack_from(">I", data, head + 4)[0]] = places.take(data, head + 8, start + length - head - 8)
        elif marker == 0xEB and data.startswith(b"JP", start) and length > 16:
            number = struct.unpack_from(">I", data, start + 4)[0]
            boxes[data[start + 2 : start + 4]].setdefault(number, places.take(data, start + 8, length - 8))
        elif marker == 0xFE:
            places.add_text("comment", "comment", utf8(places.take(data, start, length)))
    if more:
        places.xmp.append(b"".join(more[at] for at in sorted(more)))
    places.c2pa.extend(_joined(parts) for parts in boxes.values())


def _joined(parts: dict[int, bytes]) -> bytes:
    """A box that was split: every part but the first repeats the box's length and type."""
    numbers = sorted(parts)
    first = parts[numbers[0]]
    repeated = 16 if first[:4] == b"\0\0\0\1" else 8
    return first + b"".join(parts[number][repeated:] for number in numbers[1:])


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, start of the payload, its length), at most MAX_SEGMENTS."""
    at, count = 2, 0
    while at + 4 <= len(data) and count < MAX_SEGMENTS:
        if data[at] != 0xFF:
            return
        marker = data[at + 1]
        if marker == 0xFF or marker in ALONE:
            at += 1 if marker == 0xFF else 2
            continue
        if marker in (0xDA, 0xD9):
            break
        length = struct.unpack_from(">H", data, at + 2)[0]
        yield marker, at + 4, min(length - 2, len(data) - at - 4)
        at, count = at + 2 + length, count + 1
    for found in LATER.finditer(data, at):
        at = found.start()
        count += 1
        if at + 4 > len(data) or count > MAX_SEGMENTS:
            return
        length = struct.unpack_from(">H", data, at + 2)[0]
        yield data[at + 1], at + 4, min(length - 2, len(data) - at - 4)

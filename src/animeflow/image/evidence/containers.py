"""The places of WebP, GIF, AVIF and TIFF files. Knows these containers; judges nothing."""

from __future__ import annotations

import io
import struct

from PIL import Image

from .places import Places, utf8

C2PA_BOX = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
MAX_BLOCKS = 200_000
MAX_GIF_BLOCKS = 2_000_000  # of up to 255 bytes; a hostile file has them of one


def read_webp(data: bytes, places: Places) -> None:
    """RIFF chunks EXIF, XMP and C2PA."""
    at = 12
    for _ in range(MAX_BLOCKS):
        if at + 8 > len(data):
            return
        kind, length = struct.unpack_from("<4sI", data, at)
        if kind == b"EXIF":
            places.exif.append(places.take(data, at + 8, length).removeprefix(b"Exif\0\0"))
        elif kind == b"XMP ":
            places.xmp.append(places.take(data, at + 8, length))
        elif kind == b"C2PA":
            places.c2pa.append(places.take(data, at + 8, length))
        at += 8 + length + (length & 1)


def read_gif(data: bytes, places: Places) -> None:
    """Comments, and the application blocks of XMP and C2PA."""
    at, left = 13 + _table(data[10]), MAX_GIF_BLOCKS
    while left > 0:
        kind, label, start = data[at], data[at + 1], at + 2
        if kind == 0x2C:  # a frame: 9 bytes, colours, one byte, blocks
            at, left, _ = _blocks(data, at + 11 + _table(data[at + 9]), left, None)
        elif kind != 0x21:
            return
        elif label == 0xFE:
            at, left, text = _blocks(data, start, left, places)
            places.add_text("comment", "comment", utf8(text))
        elif label == 0xFF and data[start + 1 : start + 12] == b"XMP DataXMP":
            at, left, _ = _blocks(data, start, left, None)  # the packet stands there as it is, not in blocks
            places.xmp.append(places.take(data, start + 12, at - start - 12))
        elif label == 0xFF and data[start + 1 : start + 9] == b"C2PA_GIF":
            at, left, blob = _blocks(data, start + 12, left, places)
            places.c2pa.append(blob)
        else:
            at, left, _ = _blocks(data, start, left, None)


def _table(flags: int) -> int:
    """Bytes of a colour table."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _blocks(data: bytes, at: int, left: int, places: Places | None) -> tuple[int, int, bytes]:
    """Where the chain of blocks ends, how many more may be walked, and what they hold where it is wanted."""
    parts = []
    left -= 1
    while (length := data[at]) and left > 0:
        if places is not None:
            parts.append(places.take(data, at + 1, length))
        at += 1 + length
        left -= 1
    return at + 1, left, b"".join(parts)


def read_avif(data: bytes, places: Places) -> None:
    """C2PA's own box; EXIF and XMP, which the decoder finds."""
    at = 0
    for _ in range(MAX_BLOCKS):
        if at + 8 > len(data):
            break
        length, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if length == 1:
            length, head = struct.unpack_from(">Q", data, at + 8)[0], 16
        elif length == 0:
            length = len(data) - at
        if length < head:
            break
        if kind == b"uuid" and data[at + head : at + head + 16] == C2PA_BOX:
            places.c2pa.append(places.take(data, at + head + 16, length - head - 16))
        at += length
    with Image.open(io.BytesIO(data), formats=("AVIF",)) as image:  # reads the header, decodes nothing
        exif, xmp = image.info.get("exif"), image.info.get("xmp")
    if exif:
        places.exif.append(places.take(exif, 0, len(exif)).removeprefix(b"Exif\0\0"))
    if xmp:
        places.xmp.append(places.take(xmp, 0, len(xmp)))


def read_tiff(data: bytes, places: Places) -> None:
    """The file is what EXIF is in others; two of its tags hold XMP and C2PA."""
    places.exif.append(data)

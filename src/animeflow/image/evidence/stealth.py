"""Texts hidden in the lowest bits of pixels ("stealth pnginfo"): of alpha, or of the colours. Knows pixels; knows no generator.

The bits run down the first column, then down the next: in alpha one per pixel, in colours three (red, green, blue). 15 letters
tell the variant, four bytes the length in bits, then comes the text, plain or gzipped. A transparent or converted picture's
colours are not those of the file any more; the first column of a PNG can be had without decoding it: its filters need only the
row above.
"""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..header import png_chunks
from ..picture import Picture
from .places import Places, utf8

ALPHA = {b"stealth_pnginfo": False, b"stealth_pngcomp": True}
COLOURS = {b"stealth_rgbinfo": False, b"stealth_rgbcomp": True}
SIGNATURE = 15  # bytes
MAX_BITS = 8 * 8 * 1024 * 1024
LOSSLESS = frozenset({"PNG", "WEBP", "BMP", "TIFF"})
GZIP = 31
ROWS = SIGNATURE * 8 // 3  # whose first pixels hold the signature in colours

Bits = NDArray[np.uint8]


def hidden(data: bytes, picture: Picture, places: Places) -> str | None:
    """The hidden text, "" where there is a signature but nothing readable behind it, None where there is no signature."""
    if picture.alpha is not None and picture.facts.orientation == 1:
        text = _read(picture.alpha[:, :, None], ALPHA, places)
        if text is not None:
            return text
    if picture.facts.format not in LOSSLESS:
        return None
    colours = _colours(data, picture)
    return None if colours is None else _read(colours, COLOURS, places)


def _read(pixels_HWC: Bits, variants: dict[bytes, bool], places: Places) -> str | None:
    packed = variants.get(_bytes(pixels_HWC, 0, SIGNATURE))
    if packed is None:
        return None
    length = _bytes(pixels_HWC, SIGNATURE, 4)
    num_bits = min(struct.unpack(">I", length)[0], MAX_BITS) if len(length) == 4 else 0
    payload = _bytes(pixels_HWC, SIGNATURE + 4, num_bits // 8)
    return utf8(places.inflate(payload, wbits=GZIP) if packed else payload)


def _bytes(pixels_HWC: Bits, start: int, length: int) -> bytes:
    """Bytes `start` .. `start + length` of the hidden stream; only the columns that hold them are touched."""
    height, width, channels = pixels_HWC.shape
    per_column = height * channels
    first, last = start * 8 // per_column, min(width, -(-(start + length) * 8 // per_column))
    bits = np.ascontiguousarray(pixels_HWC[:, first:last].swapaxes(0, 1)).reshape(-1) & 1
    skip = start * 8 - first * per_column
    bits = bits[skip : skip + length * 8]
    return np.packbits(bits[: len(bits) // 8 * 8]).tobytes()


def _colours(data: bytes, picture: Picture) -> Bits | None:
    """The file's own colours `[H, W, 3]`, None where their first column shows that nothing is hidden."""
    facts = picture.facts
    if picture.alpha is None and facts.icc is None and facts.orientation == 1:
        return picture.pixels
    if facts.format == "PNG" and (column := _first_column(data)) is not None:
        if _bytes(column, 0, SIGNATURE) not in COLOURS:
            return None
    elif facts.format not in ("PNG", "WEBP") or (facts.format == "WEBP" and b"VP8L" not in data[:4096]):
        return None
    with Image.open(io.BytesIO(data), formats=(facts.format,)) as image:
        if image.mode not in ("RGB", "RGBA"):
            return None
        return np.asarray(image)[:, :, :3]


def _first_column(data: bytes) -> Bits | None:
    """The first pixels of the first 40 rows `[40, 1, 3]` of an 8-bit PNG; None for other kinds, which must be decoded.

    Left of the first pixel is nothing, so Sub is the value itself, Average half of the one above, and Paeth chooses the one above.
    """
    width, height, bits, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    if bits != 8 or colour not in (2, 6) or interlaced or height < ROWS:
        return None
    row = 1 + width * (3 if colour == 2 else 4)
    stream, rows = zlib.decompressobj(), bytearray()
    for kind, start, length in png_chunks(data):
        if kind == b"IDAT" and len(rows) < row * ROWS:
            rows += stream.decompress(stream.unconsumed_tail + data[start : start + length], row * ROWS - len(rows))
    if len(rows) < row * ROWS:
        return None
    column, above = np.zeros((ROWS, 1, 3), np.uint8), np.zeros(3, np.int32)
    for y in range(ROWS):
        kind, pixel = rows[y * row], np.frombuffer(rows, np.uint8, 3, y * row + 1).astype(np.int32)
        above = (pixel + (0, 0, above, above // 2, above)[kind]) & 255
        column[y, 0] = above
    return column

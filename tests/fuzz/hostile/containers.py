"""Changes to pictures that know their chunks, segments and blocks, so that a file gets past the first check of its reader."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from random import Random

from .mutate import EXTREMES, changed, shuffled
from .pictures import png_chunk

SIDES = (0, 1, 2, 3, 7, 255, 256, 4000, 9000, 29_999, 30_000, 30_001, 65_535, 2**31 - 1, 2**31, 2**32 - 1)


def png(data: bytes, draw: Random, other: bytes) -> bytes:
    """Checksums are right again afterwards, most of the time."""
    chunks, at = [], 8
    while at + 12 <= len(data):
        length = struct.unpack_from(">I", data, at)[0]
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    for _ in range(draw.choice([1, 1, 2, 4])):
        place = draw.randrange(len(chunks)) if chunks else None
        way = draw.randrange(6)
        if place is None or way == 0:
            shuffled(chunks, draw)
        elif way == 1:
            chunks[place] = chunks[place][0], changed(chunks[place][1], draw, other=other)
        elif way == 2:
            kind = draw.choice([b"tEXt", b"iTXt", b"zTXt", b"iCCP", b"eXIf", b"caBX", b"acTL", b"fcTL", b"fdAT", b"PLTE",
                                b"tRNS", b"IHDR", b"IDAT", b"IEND", b"cHRM", b"gAMA", b"abCd"])  # fmt: skip
            chunks[place] = kind, chunks[place][1]
        elif way == 3:
            _ihdr(chunks, draw)
        elif way == 4:
            _inflated(chunks, place, draw, other)
        else:
            chunks.insert(place, (b"IHDR", _header(chunks[0][1], draw)))
    made = data[:8] + b"".join(png_chunk(*chunk) for chunk in chunks)
    return _lengths(made, draw, ">I") if draw.random() < 0.2 else made


def _ihdr(chunks: list[tuple[bytes, bytes]], draw: Random) -> None:
    chunks[0] = chunks[0][0], _header(chunks[0][1], draw)


def _header(content: bytes, draw: Random) -> bytes:
    made = bytearray(content.ljust(13, b"\0")[:13])
    way = draw.randrange(4)
    if way < 2:
        struct.pack_into(">I", made, 4 * way, draw.choice(SIDES))
    elif way == 2:
        struct.pack_into(">II", made, 0, draw.choice(SIDES), draw.choice(SIDES))
    else:
        made[draw.randrange(8, 13)] = draw.choice([0, 1, 2, 3, 4, 6, 8, 16, 255])
    return bytes(made)


def _inflated(chunks: list[tuple[bytes, bytes]], place: int, draw: Random, other: bytes) -> None:
    """What is deflated in a chunk is changed; or it becomes a bomb."""
    kind, content = chunks[place]
    head, _, packed = content.partition(b"\0") if kind != b"IDAT" else (b"", b"", content)
    try:
        plain = zlib.decompress(packed if kind == b"IDAT" else packed[1:])
    except zlib.error:
        return
    plain = bytes(draw.choice([1 << 16, 1 << 24])) if draw.random() < 0.1 else changed(plain, draw, other=other)
    again = zlib.compress(plain, 1)
    chunks[place] = kind, again if kind == b"IDAT" else head + b"\0\0" + again


def _lengths(data: bytes, draw: Random, form: str) -> bytes:
    made = bytearray(data)
    at = draw.randrange(max(1, len(made) - 4))
    made[at : at + 4] = struct.pack(form, draw.choice(EXTREMES) & 0xFFFFFFFF)
    return bytes(made)


def jpeg(data: bytes, draw: Random, other: bytes) -> bytes:
    segments, at = [], 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] not in (0xDA, 0xD9):
        length = struct.unpack_from(">H", data, at + 2)[0]
        segments.append((data[at + 1], data[at + 4 : at + 2 + length]))
        at += 2 + length
    rest = data[at:]
    for _ in range(draw.choice([1, 1, 2, 4])):
        place = draw.randrange(len(segments)) if segments else None
        way = draw.randrange(6)
        if place is None or way == 0:
            shuffled(segments, draw)
        elif way == 1:
            segments[place] = segments[place][0], changed(segments[place][1], draw, other=other)
        elif way == 2:
            segments[place] = (
                draw.choice([0xC0, 0xC1, 0xC2, 0xC4, 0xDB, 0xDD, 0xE1, 0xE2, 0xEB, 0xEE, 0xFE, 0xC3, 0xC9]),
                segments[place][1],
            )
        elif way == 3:
            _frame(segments, draw)
        elif way == 4:
            rest = changed(rest, draw, other=other)
        else:
            rest = rest[: draw.randrange(len(rest) + 1)] + b"\xff\xd9"
    parts = [
        struct.pack(">BBH", 0xFF, marker, min(65_535, len(content) + 2)) + content[:65_533]
        for marker, content in segments
    ]
    return data[:2] + b"".join(parts) + rest


def _frame(segments: list[tuple[int, bytes]], draw: Random) -> None:
    """Sides, precision, number and sampling of the components."""
    for number, (marker, content) in enumerate(segments):
        if 0xC0 <= marker <= 0xC2 and len(content) >= 6:
            made = bytearray(content)
            if draw.random() < 0.6:
                struct.pack_into(">H", made, draw.choice([1, 3]), draw.choice(SIDES) & 0xFFFF)
            else:
                made[draw.randrange(len(made))] = draw.choice([0, 1, 2, 3, 4, 8, 12, 0x11, 0x22, 0x44, 0xFF])
            segments[number] = marker, bytes(made)
            return


def webp(data: bytes, draw: Random, other: bytes) -> bytes:
    chunks, at = [], 12
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        chunks.append((kind, data[at + 8 : at + 8 + length]))
        at += 8 + length + (length & 1)
    for _ in range(draw.choice([1, 1, 2, 4])):
        place = draw.randrange(len(chunks)) if chunks else None
        way = draw.randrange(5)
        if place is None or way == 0:
            shuffled(chunks, draw)
        elif way == 1:
            chunks[place] = chunks[place][0], changed(chunks[place][1], draw, other=other)
        elif way == 2:
            kinds = [b"VP8 ", b"VP8L", b"VP8X", b"ANIM", b"ANMF", b"ALPH", b"EXIF", b"XMP ", b"ICCP", b"C2PA"]
            chunks[place] = draw.choice(kinds), chunks[place][1]
        else:
            sides = b"".join((draw.choice(SIDES) & 0xFFFFFF).to_bytes(3, "little") for _ in range(2))
            chunks.insert(draw.choice([0, place]), (b"VP8X", bytes([draw.choice([0, 2, 0x10, 0x3E]), 0, 0, 0]) + sides))
    body = b"".join(
        struct.pack("<4sI", kind, len(content)) + content + b"\0" * (len(content) & 1) for kind, content in chunks
    )
    made = b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body
    return _lengths(made, draw, "<I") if draw.random() < 0.2 else made


def gif(data: bytes, draw: Random, other: bytes) -> bytes:
    """Sides of the screen and of the frames, sizes of colour tables and of codes, blocks."""
    made = bytearray(data)
    frames = [at for at in range(13, len(made) - 10) if made[at] == 0x2C][:8]
    for _ in range(draw.choice([1, 1, 2, 4])):
        way = draw.randrange(5)
        if way == 0 and len(made) > 10:
            struct.pack_into("<H", made, draw.choice([6, 8]), draw.choice(SIDES) & 0xFFFF)
        elif way == 1 and frames:
            at = draw.choice(frames)
            if at + 10 < len(made):
                struct.pack_into("<H", made, at + draw.choice([1, 3, 5, 7]), draw.choice(SIDES) & 0xFFFF)
        elif way == 2 and frames:
            at = draw.choice(frames)
            made[at + 9 : at + 11] = bytes([draw.randrange(256), draw.choice([0, 1, 8, 12, 13, 255])])
        elif way == 3 and frames:
            at = draw.choice(frames)
            made[at:at] = made[at : at + draw.choice([10, 50, 400])] * draw.choice([1, 20])
        else:
            made = bytearray(changed(bytes(made), draw, other=other, times=1))
        if not made:
            break
    return bytes(made)


def other_picture(data: bytes, draw: Random, other: bytes) -> bytes:
    return changed(data, draw, other=other)


WAYS: dict[str, Callable[[bytes, Random, bytes], bytes]] = {
    "png": png, "apng": png, "jpeg": jpeg, "webp": webp, "gif": gif, "other": other_picture,
}  # fmt: skip

"""What a picture file says before anything is decoded: format, size, frames, profile; limits are checked here.

Reads bytes by hand (PNG, JPEG, GIF, WebP, BMP), because some decoders allocate the whole canvas when they open a file. Knows bytes;
decodes no pixel and never inflates a text chunk.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from .frames import gif_frames, tiff_frames
from .picture import BadPicture, Limits

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Left out of the bytes the decoder gets: text could be a zip bomb, the profile is read here, and only the first frame is wanted.
PNG_LEFT_OUT = frozenset({b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"acTL", b"fcTL", b"fdAT"})
PNG_TEXT = frozenset({b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"caBX"})
JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
JPEG_ALONE = frozenset({0x01, *range(0xD0, 0xD8)})


MAX_SCANS = 200  # of a JPEG: people write about ten, and each walks through the whole picture, however few bytes it has
FEW = 20_000  # chunks, segments and blocks that any file may have


@dataclass
class Header:
    """What the file says. `height` and `width` are None where only the decoder can tell (TIFF, AVIF)."""

    format: str
    height: int | None = None
    width: int | None = None
    frames: int | None = None
    bits: int = 8
    profile: bytes | None = None
    text_bytes: int = 0
    clean: bytes = b""  # what the decoder may see
    notes: list[str] = field(default_factory=list)


def read_header(data: bytes, limits: Limits) -> Header:
    """Header of a picture file. Raises BadPicture: empty, unknown_format, truncated, unreadable, too_large."""
    if not data:
        raise BadPicture("empty", "the file has no bytes")
    if len(data) > limits.max_bytes:
        raise BadPicture("too_large", f"{len(data):,} bytes; the limit is {limits.max_bytes:,}")
    name = sniff(data)
    if name is None:
        raise BadPicture("unknown_format", f"begins with {data[:8].hex(' ')}, which is no picture format we read")
    header = Header(name, clean=data)
    try:
        READERS.get(name, _nothing)(data, header, limits)
    except (struct.error, IndexError) as error:
        raise BadPicture("truncated", f"the {name} header ends after {len(data):,} bytes") from error
    if header.height is not None and header.width is not None:
        limits.check_size(header.height, header.width)
    if header.frames is not None and header.frames > limits.max_frames:
        raise BadPicture("too_large", f"{header.frames:,} frames; the limit is {limits.max_frames:,}")
    if header.text_bytes > limits.max_text_bytes:
        raise BadPicture("too_large", f"{header.text_bytes:,} bytes of text; the limit is {limits.max_text_bytes:,}")
    if header.profile is not None and len(header.profile) > limits.max_icc_bytes:
        raise BadPicture("too_large", f"a colour profile of over {limits.max_icc_bytes:,} bytes")
    return header


def sniff(data: bytes) -> str | None:
    """Format by magic number, whatever the file is called; None for anything else. The first 32 bytes are enough."""
    if data.startswith(PNG_SIGNATURE[: min(8, max(4, len(data)))]):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data.startswith((b"II*\x00", b"MM\x00*")):
        return "TIFF"
    if data[4:8] == b"ftyp" and data[8:12] in (b"avif", b"avis", b"mif1", b"msf1"):
        return "AVIF"
    if (
        data.startswith(b"BM")
        and len(data) >= 18
        and data[14:18] in (b"\x0c\0\0\0", b"\x28\0\0\0", b"\x6c\0\0\0", b"\x7c\0\0\0")
    ):
        return "BMP"
    return None


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start of the payload, its length) up to and with IEND. Raises BadPicture("truncated") where one is cut off."""
    at, left = len(PNG_SIGNATURE), FEW + len(data) // 512
    while at + 8 <= len(data):
        left -= 1
        if left < 0:
            raise _too_many("chunks", data)
        length, kind = struct.unpack_from(">I4s", data, at)
        if at + 12 + length > len(data):
            raise BadPicture(
                "truncated", f"chunk {kind!r} at byte {at:,} says {length:,} bytes; {len(data) - at - 8:,} follow"
            )
        yield kind, at + 8, length
        if kind == b"IEND":
            return
        at += 12 + length
    raise BadPicture("truncated", f"ends after {len(data):,} bytes without IEND")


def _png(data: bytes, header: Header, limits: Limits) -> None:
    header.width, header.height = struct.unpack_from(">II", data, 16)
    if data[12:16] != b"IHDR":
        raise BadPicture("unreadable", "the first chunk is not IHDR")
    header.bits, header.frames = data[24], 1
    limits.check_size(header.height, header.width)  # before the walk: a bomb is called a bomb even when it is cut short
    kept, start, seen = [data[:8]], 8, set()
    for kind, at, length in png_chunks(data):
        seen.add(kind)
        end = at + length
        if kind in (b"IHDR", b"PLTE", b"IDAT"):
            if zlib.crc32(memoryview(data)[at - 4 : end]) != struct.unpack_from(">I", data, end)[0]:
                raise BadPicture("unreadable", f"chunk {kind.decode()} at byte {at - 8:,} has a wrong checksum")
        elif kind == b"acTL":
            header.frames = max(1, struct.unpack_from(">I", data, at)[0])
        elif kind == b"iCCP":
            _png_profile(data[at:end], header, limits)
        elif kind == b"gAMA" and abs(struct.unpack_from(">I", data, at)[0] - 45455) > 1000:
            header.notes.append("gamma_ignored")  # what browsers without colour management and every trainer do
        if kind in PNG_TEXT:
            header.text_bytes += length
        if kind in PNG_LEFT_OUT:
            kept.append(data[start : at - 8])
            start = end + 4
    if b"IDAT" not in seen:
        raise BadPicture("truncated", "has no pixels (IDAT)")
    if len(kept) > 1:
        header.clean = b"".join([*kept, data[start:]])


def _png_profile(chunk: bytes, header: Header, limits: Limits) -> None:
    _, _, packed = chunk.partition(b"\0")
    try:
        header.profile = zlib.decompressobj().decompress(packed[1:], limits.max_icc_bytes + 1)
    except zlib.error:
        header.notes.append("icc_broken")


def _jpeg(data: bytes, header: Header, limits: Limits) -> None:
    at, parts, left = 2, {}, FEW
    header.frames = 1
    while True:
        left -= 1
        if left < 0:
            raise _too_many("segments", data)
        while data[at] == 0xFF and data[at + 1] == 0xFF:  # fill bytes
            at += 1
        if data[at] != 0xFF:
            raise BadPicture("unreadable", f"byte {at:,} should start a JPEG marker")
        marker = data[at + 1]
        if marker in JPEG_ALONE:
            at += 2
            continue
        if marker in (0xDA, 0xD9):  # the picture itself begins, or there is none
            break
        length = struct.unpack_from(">H", data, at + 2)[0]
        if at + 2 + length > len(data):
            raise BadPicture("truncated", f"ends inside segment {marker:#x} of the header")
        if marker in JPEG_FRAMES:
            header.height, header.width = struct.unpack_from(">HH", data, at + 5)
            limits.check_size(header.height, header.width)
        elif marker == 0xE2 and data[at + 4 : at + 16] == b"ICC_PROFILE\0":
            parts[data[at + 16]] = data[at + 18 : at + 2 + length]
        if 0xE0 <= marker <= 0xEF or marker == 0xFE:
            header.text_bytes += length
        at += 2 + length
    if header.height is None:
        raise BadPicture("unreadable", "a JPEG without a frame header")
    if data.rfind(b"\xff\xd9", at) < 0:
        raise BadPicture("truncated", f"ends after {len(data):,} bytes without the end marker")
    if (scans := data.count(b"\xff\xda", at)) > MAX_SCANS:  # nothing else in the coded picture looks so
        raise BadPicture("too_large", f"{scans:,} scans; the limit is {MAX_SCANS}")
    if parts:
        header.profile = b"".join(parts[number] for number in sorted(parts))


def _gif(data: bytes, header: Header, limits: Limits) -> None:
    header.width, header.height = struct.unpack_from("<HH", data, 6)
    blocks = FEW + len(data) // 128
    frames = gif_frames(data, up_to=limits.max_frames, blocks=blocks)
    if frames is None:
        raise _too_many("blocks", data)
    header.frames = max(1, frames)


def _bmp(data: bytes, header: Header, limits: Limits) -> None:
    if data[14:18] == b"\x0c\0\0\0":
        header.width, header.height = struct.unpack_from("<HH", data, 18)
    else:
        header.width, header.height = (abs(side) for side in struct.unpack_from("<ii", data, 18))


def _webp(data: bytes, header: Header, limits: Limits) -> None:
    header.frames = 1
    at, end = 12, 8 + struct.unpack_from("<I", data, 4)[0]
    if end > len(data):
        raise BadPicture("truncated", f"RIFF says {end:,} bytes; the file has {len(data):,}")
    frames, left = 0, FEW + len(data) // 512
    while at + 8 <= end:
        left -= 1
        if left < 0:
            raise _too_many("chunks", data)
        kind, length = struct.unpack_from("<4sI", data, at)
        body = at + 8
        if kind == b"VP8X" and header.width is None:  # the decoder believes the first one too
            header.width = 1 + int.from_bytes(data[body + 4 : body + 7], "little")
            header.height = 1 + int.from_bytes(data[body + 7 : body + 10], "little")
        elif kind == b"VP8 " and header.width is None:
            width, height = struct.unpack_from("<HH", data, body + 6)
            header.width, header.height = width & 0x3FFF, height & 0x3FFF
        elif kind == b"VP8L" and header.width is None:
            bits = struct.unpack_from("<I", data, body + 1)[0]
            header.width, header.height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        elif kind == b"ICCP":
            header.profile = data[body : body + length]
        elif kind in (b"EXIF", b"XMP "):
            header.text_bytes += length
        elif kind == b"ANMF":
            frames += 1
        at = body + length + (length & 1)
    header.frames = max(1, frames)


def _tiff(data: bytes, header: Header, limits: Limits) -> None:
    header.frames = max(
        1, tiff_frames(data, up_to=limits.max_frames)
    )  # the decoder opens it without its canvas, and may tell the rest


def _nothing(data: bytes, header: Header, limits: Limits) -> None:
    """AVIF: its decoder opens it without allocating the canvas, so it may tell."""


def _too_many(what: str, data: bytes) -> BadPicture:
    return BadPicture(
        "too_large", f"more {what} than a file of {len(data):,} bytes has by right: reading them could take hours"
    )


READERS = {"PNG": _png, "JPEG": _jpeg, "GIF": _gif, "BMP": _bmp, "WEBP": _webp, "TIFF": _tiff}

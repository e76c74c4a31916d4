"""How many frames a GIF or a TIFF has, counted no further than asked: the decoder would walk through millions. Decodes nothing."""

from __future__ import annotations

import struct


def gif_frames(data: bytes, *, up_to: int, blocks: int) -> int | None:
    """Frames as far as the file can be read, at most `up_to + 1`. None where it has over `blocks` blocks."""
    at, frames = 13 + _table(data[10]), 0
    try:
        while frames <= up_to:
            kind = data[at]
            if kind == 0x2C:  # 9 bytes of place, colours, one byte, blocks
                frames += 1
                at += 11 + _table(data[at + 9])
            elif kind == 0x21:
                at += 2
            else:
                break
            while length := data[at]:
                at += 1 + length
                blocks -= 1
                if blocks < 0:
                    return None
            at += 1
    except IndexError:
        pass  # cut: what is there counts
    return frames


def tiff_frames(data: bytes, *, up_to: int) -> int:
    """Directories in the chain, at most `up_to + 1`; a chain that comes back to itself ends there."""
    order = "<" if data[:2] == b"II" else ">"
    seen: set[int] = set()
    at = struct.unpack_from(order + "I", data, 4)[0]
    try:
        while at and at not in seen and len(seen) <= up_to:
            entries = struct.unpack_from(order + "H", data, at)[0]
            seen.add(at)
            at = struct.unpack_from(order + "I", data, at + 2 + 12 * entries)[0]
    except struct.error:
        pass
    return len(seen)


def _table(flags: int) -> int:
    """Bytes of a colour table."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0

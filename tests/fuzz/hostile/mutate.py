"""Changes to bytes that need not know what they are: flips, cuts, extremes, splices. Knows chance; knows no format."""

from __future__ import annotations

import struct
from collections.abc import Callable, MutableSequence
from random import Random
from typing import Any

EXTREMES = (
    0, 1, 2, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0xFFFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE,
    0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF, 0x8000000000000000, 0xFFFFFFFFFFFFFFFF,
)  # fmt: skip


def flip(data: bytearray, draw: Random, other: bytes) -> None:
    for _ in range(draw.choice([1, 1, 2, 4, 16])):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)


def put(data: bytearray, draw: Random, other: bytes) -> None:
    data[draw.randrange(len(data))] = draw.choice([0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)])


def extreme(data: bytearray, draw: Random, other: bytes) -> None:
    size, order = draw.choice([(1, "B"), (2, "H"), (4, "I"), (8, "Q")])
    value = draw.choice(EXTREMES) & (256**size - 1)
    at = draw.randrange(max(1, len(data) - size))
    data[at : at + size] = struct.pack(draw.choice("<>") + order, value)


def nudge(data: bytearray, draw: Random, other: bytes) -> None:
    at = draw.randrange(len(data))
    data[at] = (data[at] + draw.choice([-2, -1, 1, 2])) % 256


def cut(data: bytearray, draw: Random, other: bytes) -> None:
    del data[draw.randrange(len(data)) :]


def remove(data: bytearray, draw: Random, other: bytes) -> None:
    at = draw.randrange(len(data))
    del data[at : at + draw.choice([1, 2, 4, 16, 64, 512])]


def double(data: bytearray, draw: Random, other: bytes) -> None:
    at = draw.randrange(len(data))
    part = data[at : at + draw.choice([1, 4, 16, 64, 512])]
    data[at:at] = part * draw.choice([1, 1, 2, 8, 100])


def zeros(data: bytearray, draw: Random, other: bytes) -> None:
    at = draw.randrange(len(data))
    size = min(draw.choice([1, 4, 16, 64, 512]), len(data) - at)
    data[at : at + size] = bytes([draw.choice([0, 0xFF])]) * size


def insert(data: bytearray, draw: Random, other: bytes) -> None:
    at = draw.randrange(len(data) + 1)
    data[at:at] = draw.randbytes(draw.choice([1, 2, 4, 16, 300]))


def splice(data: bytearray, draw: Random, other: bytes) -> None:
    """A part of another file, of whatever format, over or into this one."""
    if not other:
        return
    start = draw.randrange(len(other))
    part = other[start : start + draw.choice([4, 16, 64, 512, 1 << 20])]
    at = draw.randrange(len(data) + 1)
    data[at : at + (len(part) if draw.random() < 0.5 else 0)] = part


def behind(data: bytearray, draw: Random, other: bytes) -> None:
    """Two files in one."""
    data += other


CHANGES: tuple[Callable[[bytearray, Random, bytes], None], ...] = (
    flip, flip, put, extreme, extreme, nudge, cut, remove, double, zeros, insert, splice, behind,
)  # fmt: skip


def changed(data: bytes, draw: Random, *, other: bytes = b"", times: int | None = None) -> bytes:
    """`data` after some changes; `other` is a file of another format to take parts of."""
    made = bytearray(data)
    for _ in range(times or draw.choice([1, 1, 1, 2, 3, 6])):
        if not made:
            break
        draw.choice(CHANGES)(made, draw, other)
    return bytes(made)


def shuffled(parts: MutableSequence[Any], draw: Random) -> None:
    """Parts of a file left out, repeated, put elsewhere, exchanged."""
    if not parts:
        return
    at, to = draw.randrange(len(parts)), draw.randrange(len(parts))
    way = draw.randrange(5)
    if way == 0:
        del parts[at]
    elif way == 1:
        parts.insert(to, parts[at])
    elif way == 2:
        parts.insert(to, parts.pop(at))
    elif way == 3:
        parts[at], parts[to] = parts[to], parts[at]
    else:
        for _ in range(draw.choice([2, 30, 300])):
            parts.insert(at, parts[at])

"""Archives with things wrong in them, field by field: tar, zip, Ren'Py. Knows their layouts; writes none that is meant to be good.

Each maker builds a good archive of a few pictures, with changes at the fields that readers trust.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import struct
import tempfile
import zlib
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import cv2
import numpy as np

from .mutate import EXTREMES, changed, shuffled
from .pictures import any_picture

NAMES = (
    "../outside/escaped.png", "../../escaped.png", "/animeflow-fuzz-escaped.png", "a/../../outside/escaped.png", "..",
    ".", "", "C:\\escaped.png", "c:/escaped.png", "\\\\host\\x.png", "a\0b.png", "a" * 300 + ".png", "d/" * 200 + "x.png",
    "page.png/inner.png", "unpacked.jsonl", "refused.jsonl", ".hidden.png", "a\nb.png", "a\u2028b.png", "a\x85b.png",
    "\x1b[2J.png", "con.png",
    "日本.png", "\udcff.png", "a//b.png", "./x.png", "x.png/", "-rf.png", "*?.png", "eileen happy.png", "000001.jpg",
)  # fmt: skip


def members(draw: Random) -> list[tuple[str, bytes]]:
    """Names and bytes, mostly good."""
    names = ["eileen happy.png", "eileen sad.png", "images/bg park.jpg", "ev/a.webp", "readme.txt", "日本/語.gif"]
    found = [(name, any_picture(draw)) for name in draw.sample(names, draw.randrange(1, 6))]
    for _ in range(draw.choice([0, 0, 1, 1, 2])):
        at = draw.randrange(len(found))
        found[at] = draw.choice(NAMES), found[at][1]
    if draw.random() < 0.3:
        at = draw.randrange(len(found))
        found[at] = found[at][0], changed(found[at][1], draw)
    if draw.random() < 0.1:
        found.append(("text.txt", bytes(draw.choice([0, 700, 40 << 20]))))
    if draw.random() < 0.1:
        found.append(draw.choice(found))
    return found


def encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


# -- tar -----------------------------------------------------------------------------------------------------------------


def tar(draw: Random, other: bytes) -> bytes:
    records = [_tar_record(name, data, draw) for name, data in members(draw)]
    if draw.random() < 0.3:
        shuffled(records, draw)
    data = b"".join(records) + bytes(1024 * draw.choice([1, 1, 1, 0]))
    if draw.random() < 0.15:
        data = changed(data, draw, other=other)
    pack = draw.choice([None, None, None, _gzip, bz2.compress, lzma.compress])
    if pack is not None:
        data = pack(data) + (pack(data[:512]) if draw.random() < 0.1 else b"")
        if draw.random() < 0.4:
            data = changed(data, draw, other=other)
    return data


def _gzip(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)  # the same every time


def _tar_record(name: str, data: bytes, draw: Random) -> bytes:
    """Header and bytes. The checksum is right, so that what else is wrong is read."""
    before, header = b"", bytearray(512)
    way = draw.randrange(14)
    text = encoded(name)
    if len(text) > 100 or way == 0:
        before = _extra(draw, text)
    header[: min(100, len(text))] = text[:100]
    size: bytes = b"%011o\0" % len(data)
    kind = b"0"
    if way == 1:
        size = draw.choice(
            [
                b"\x80" + draw.randbytes(11),
                b"\xff" * 12,
                b"77777777777\0",
                b"           \0",
                b"-1\0",
                b"\x80" + bytes(11),
            ]
        )
    elif way == 2:
        kind = draw.choice(
            [b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"S", b"V", b"g", b"x", b"L", b"K", b"\0", b"\xff"]
        )
    header[100:108], header[124:136], header[156:157] = b"0000644\0", size.ljust(12, b"\0")[:12], kind
    header[257:265] = b"ustar\x0000"
    if way == 3:
        header[157:257] = (b"../outside/link" * 8)[:100]
        header[156:157] = b"2"
    elif way == 4:
        header[345:500] = encoded(draw.choice(NAMES))[:155].ljust(155, b"\0")
    elif way == 5:
        header = bytearray(changed(bytes(header), draw, times=1)[:512].ljust(512, b"\0"))
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return before + bytes(header) + data + bytes(-len(data) % 512)


def _extra(draw: Random, name: bytes) -> bytes:
    """A record before the member: a long name, or pax facts."""
    facts = [b"path=" + name, b"size=" + draw.choice([b"0", b"99999999999999999999", b"-1", b"7", b"9" * 30, b"x"])]
    lines = [b"%d %s\n" % (len(fact) + draw.choice([4, 4, 4, 0, 900]), fact) for fact in facts]
    kind, data = draw.choice(
        [
            (b"L", name + b"\0"),
            (b"x", b"".join(lines)),
            (b"g", b"".join(lines)),
            (b"K", name),
            (b"x", changed(lines[0], draw)),
        ]
    )
    header = bytearray(512)
    header[:13], header[156:157], header[257:265] = b"././@LongLink", kind, b"ustar\x0000"
    header[124:136] = b"%011o\0" % draw.choice([len(data), len(data), len(data), 0, 2_000_000, 8**11 - 1])
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + data + bytes(-len(data) % 512)


# -- zip -----------------------------------------------------------------------------------------------------------------


def zipped(draw: Random, other: bytes, *, ugoira: bool = False) -> bytes:
    content = members(draw)
    if ugoira:
        content = [(f"{number:06d}.jpg", data) for number, (_, data) in enumerate(content)] + [
            ("000009.png", any_picture(draw))
        ]
        content.append(("animation.json", _animation(draw)))
    out, table = io.BytesIO(), []
    for name, data in content:
        table.append(_zip_member(out, name, data, draw))
    if draw.random() < 0.15:
        shuffled(table, draw)
    if draw.random() < 0.05:
        table += table[:1] * 2000
    start = out.tell()
    out.write(b"".join(table))
    _zip_end(out, start, len(table), draw)
    data = out.getvalue()
    return changed(data, draw, other=other) if draw.random() < 0.25 else data


def _animation(draw: Random) -> bytes:
    from .tables import text_of  # a JSON like any other

    frames = [{"file": f"{number:06d}.jpg", "delay": 40 + number} for number in range(3)]
    return text_of(draw.choice([frames, {"frames": frames}, {"ugokuIllustData": {"frames": frames}}]), draw)


def _zip_member(out: io.BytesIO, name: str, data: bytes, draw: Random) -> bytes:
    method = draw.choice([0, 8])
    packed = data
    if method == 8:
        engine = zlib.compressobj(1, zlib.DEFLATED, -15)
        packed = engine.compress(data) + engine.flush()
    text, at = encoded(name), out.tell()
    fields: dict[str, int] = {
        "version": 20, "flags": 0x800, "method": method, "time": 0, "date": 33, "crc": zlib.crc32(data), "packed": len(packed),
        "size": len(data), "name": len(text), "extra": 0, "comment": 0, "disk": 0, "inner": 0, "outer": 0, "offset": at,
    }  # fmt: skip
    local, extra, made = dict(fields), b"", 20
    way = draw.randrange(10)
    if way == 0:
        key = draw.choice(list(fields))
        fields[key] = draw.choice(EXTREMES)
    elif way == 1:
        key = draw.choice(["flags", "method", "crc", "packed", "size", "name", "extra"])
        local[key] = draw.choice(EXTREMES)
    elif way == 2:
        fields |= {"size": 2**32 - 1, "packed": 2**32 - 1, "offset": 2**32 - 1}
        numbers = [draw.choice([*EXTREMES, len(data), len(packed), at]) for _ in range(draw.choice([0, 1, 2, 3]))]
        extra = struct.pack("<HH", 1, draw.choice([24, 8 * len(numbers), 0xFFFF])) + struct.pack(
            f"<{len(numbers)}Q", *numbers
        )
        fields["extra"] = len(extra)
    elif way == 3:
        made, fields["outer"] = 3 << 8 | 20, draw.choice([0o120777, 0o100644, 0o060000]) << 16
    elif way == 4:
        packed = changed(packed, draw)
    out.write(
        struct.pack("<4sHHHHHIIIHH", b"PK\3\4", *(local[key] & mask for key, mask in LOCAL.items())) + text + packed
    )
    body = struct.pack("<4sHHHHHHIIIHHHHHII", b"PK\1\2", made, *(fields[key] & mask for key, mask in CENTRAL.items()))
    return body + text + extra


HALF, WORD = 0xFFFF, 0xFFFFFFFF
LOCAL = {
    "version": HALF, "flags": HALF, "method": HALF, "time": HALF, "date": HALF, "crc": WORD, "packed": WORD, "size": WORD,
    "name": HALF, "extra": HALF,
}  # fmt: skip
CENTRAL = LOCAL | {"comment": HALF, "disk": HALF, "inner": HALF, "outer": WORD, "offset": WORD}


def _zip_end(out: io.BytesIO, start: int, number: int, draw: Random) -> None:
    size = out.tell() - start
    facts = [0, 0, number & HALF, number & HALF, size, start]
    way = draw.randrange(8)
    if way == 0:
        at = draw.randrange(6)
        facts[at] = draw.choice(EXTREMES) & (HALF if at < 4 else WORD)
    elif way == 1:
        place, wide = out.tell(), [size, start]
        wide[draw.randrange(2)] = draw.choice([*EXTREMES, size, start])
        out.write(struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, number, number, *wide))
        out.write(struct.pack("<4sIQI", b"PK\6\7", 0, draw.choice([*EXTREMES, place, place]), 1))
        facts[4], facts[5] = WORD, WORD
    comment = draw.choice([b""] * 20 + [b"PK\5\6" * 9, bytes(300)])
    out.write(struct.pack("<4sHHHHIIH", b"PK\5\6", *facts, draw.choice([len(comment)] * 20 + [HALF, 0])) + comment)


# -- Ren'Py --------------------------------------------------------------------------------------------------------------

OPCODES = (
    b"(", b".", b"0", b"1", b"2", b"F1.5\n", b"I99999999999999999999\n", b"J\xff\xff\xff\xff", b"K\x07",
    b"L" + b"9" * 5000 + b"L\n",
    b"N", b"R", b"S'text'\n", b"U\x03abc", b"V\\ud800\n", b"X\xff\xff\xff\x7f", b"a", b"b", b"cos\nsystem\n",
    b"c__builtin__\neval\n",
    b"d", b"}", b"e", b"g0\n", b"h\x00", b"j\xff\xff\xff\x7f", b"ios\nsystem\n", b"l", b"]", b"o", b"p0\n", b"q\x00",
    b"r\xff\xff\xff\xff", b"s", b"t", b")", b"u", b"G" + bytes(8), b"\x80\x05", b"\x80\xff", b"\x81", b"\x82\x01",
    b"\x84\x01\0\0\0",
    b"\x85", b"\x86", b"\x87", b"\x88", b"\x89", b"\x8a\x09" + b"\x7f" * 9, b"\x8b\xff\xff\xff\x7f", b"B\xff\xff\xff\xff",
    b"C\x02ab",
    b"\x8c\x01\xff", b"\x8d" + b"\xff" * 8, b"\x8e" + b"\xff" * 8, b"\x8f", b"\x90", b"\x91", b"\x92", b"\x93", b"\x94",
    b"\x95" + b"\xff" * 8, b"\x96" + b"\xff" * 8, b"\x97", b"\x98", b"Pid\n", b"Q",
)  # fmt: skip


def rpa(draw: Random, other: bytes) -> tuple[bytes, bytes | None]:
    """The archive, and of an RPA-1 the index beside it."""
    version, key = draw.choice([3, 3, 3, 2, 1]), draw.choice([0xDEADBEEF, 0x42424242, 0, 0xFFFFFFFF])
    key = key if version == 3 else 0
    start = b" " * {1: 0, 2: 25, 3: 34}[version]
    body, index = io.BytesIO(start), dict[Any, Any]()
    body.seek(0, io.SEEK_END)
    for name, data in members(draw):
        first = data[: draw.choice([0, 0, 16])]
        rest = data[len(first) :]
        place = (body.tell() ^ key, len(rest) ^ key)
        body.write(rest)
        index[draw.choice([name, encoded(name)])] = [
            (*place, draw.choice([first, first.decode("latin-1")])) if first else place
        ]
    if draw.random() < 0.4:
        _index(index, draw)
    packed = _pickled(index, draw, other)
    if version == 1:
        return body.getvalue(), packed
    at = body.tell()
    body.write(packed)
    said = draw.choice([at] * 100 + [*EXTREMES])
    body.seek(0)
    body.write(b"RPA-3.0 %016x %08x\n" % (said, key) if version == 3 else b"RPA-2.0 %016x\n" % said)
    data = body.getvalue()
    return (changed(data, draw, other=other) if draw.random() < 0.3 else data), None


def _index(index: dict[Any, Any], draw: Random) -> None:
    """Places that lie: outside, over each other, of the wrong kind."""
    name = draw.choice(list(index))
    offset, length = index[name][0][:2]
    number = draw.choice([*EXTREMES, -1, -(2**40), 10**39])
    shared = "x" * draw.choice([16, 70_000])
    strange: list[Any] = [
        [(number, length)], [(offset, number)], [(number, number, b"")], [], [()], [(1,)], [None], None, "text", {},
        [[offset, length]],
        [(offset, length)] * 50, [(offset, length, 3.5)], [("a", "b")], [(offset, length, shared)] * 300, [(True, False)],
        [(offset, length, b"x" * 300)], (offset, length), [(offset, length, None)],
    ]  # fmt: skip
    index[name] = draw.choice(strange)
    if draw.random() < 0.3:
        index[draw.choice([None, 5, 10**30, b"\xff\xfe", "\ud800", (1, 2), True])] = [(offset, length)]


def _pickled(index: dict[Any, Any], draw: Random, other: bytes) -> bytes:
    try:
        plain = pickle.dumps(index, draw.choice([0, 2] + [3, 4, 5] * 4))
    except UnicodeEncodeError:
        plain = pickle.dumps({}, 2)
    way = draw.randrange(6)
    if way == 0:
        made = bytearray(plain)
        for _ in range(draw.choice([1, 1, 2, 5])):
            opcode, at = draw.choice(OPCODES), draw.randrange(len(made))
            made[at : at + draw.choice([0, 0, 1, len(opcode)])] = opcode * draw.choice([1, 1, 1, 3, 2000])
        plain = bytes(made)
    elif way == 1:
        plain = changed(plain, draw, other=other)
    elif way == 2 and draw.random() < 0.3:
        plain = draw.choice(
            [bytes(40 << 20), b"(" * 300_000, b"]" * 90_000 + b"a" * 89_999 + b".", b"N" * 200_000, b""]
        )
    packed = zlib.compress(plain, 1)
    return changed(packed, draw, other=other) if draw.random() < 0.2 else packed


# -- video ---------------------------------------------------------------------------------------------------------------

CLIPS = (("a.avi", "MJPG"), ("a.mp4", "mp4v"), ("a.avi", "FFV1"))


@cache
def clips() -> list[tuple[str, bytes]]:
    """Two scenes of a few frames in each codec. These containers have no random ids, so a case stays the same."""
    noise = np.random.default_rng(4)
    scenes = [noise.integers(0, 255, (6, 8, 3), np.uint8).repeat(12, 0).repeat(12, 1) for _ in range(2)]
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for name, codec in CLIPS:
            video = cv2.VideoWriter(f"{folder}/{name}", cv2.VideoWriter_fourcc(*codec), 12, (96, 72))
            for scene in scenes:
                for _ in range(6):
                    video.write(scene)
            video.release()
            found.append((name, Path(folder, name).read_bytes()))
    return found


def video(draw: Random, other: bytes) -> tuple[str, bytes]:
    """A clip with changes anywhere, most of them where tables and headers stand."""
    name, data = draw.choice(clips())
    edge = draw.choice([300, 1000, len(data)])
    at = draw.choice([0, max(0, len(data) - edge)])
    part = changed(data[at : at + edge], draw, other=other, times=draw.choice([1, 2, 8]))
    return name, data[:at] + part + data[at + edge :]

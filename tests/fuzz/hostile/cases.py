"""Case `number` of a seed: the files of one try, the same every time. Knows formats and their shares; knows no reader."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from . import archives, containers, layouts
from .mutate import changed
from .pictures import SUFFIX, any_picture, seeds

# How often each comes. Pictures and archives in all: 60 of 100.
SHARES = {
    "png": 10, "apng": 5, "jpeg": 11, "webp": 8, "gif": 6, "other": 3, "tar": 8, "zip": 8, "ugoira": 2, "rpa": 9,
    "video": 4, "json": 21, "tags": 5,
}  # fmt: skip
FORMATS = tuple(name for name, share in SHARES.items() for _ in range(share))
STEP = 37  # has no divisor in common with 100, so that every hundred cases have all formats in their shares


@dataclass(frozen=True)
class Case:
    """Files by their names below a folder, and where they are brought to.

    Attributes:
        door: picture, unpack, tags, or a source's kind.
        options: of the door.
    """

    number: int
    format: str
    door: str
    files: dict[str, bytes]
    options: dict[str, Any] = field(default_factory=dict)


def make(seed: int, number: int) -> Case:
    draw = Random(f"{seed}:{number}")
    kind = FORMATS[number * STEP % len(FORMATS)]
    other = any_picture(draw) if draw.random() < 0.5 else _other(draw)
    return MAKERS.get(kind, _picture)(number, kind, draw, other)


def _other(draw: Random) -> bytes:
    """A file of another format, to take parts of."""
    return draw.choice([archives.zipped, archives.tar])(draw, b"")[: 1 << 16]


def _picture(number: int, kind: str, draw: Random, other: bytes) -> Case:
    data = draw.choice(seeds(kind))
    knowing = (
        draw.random() < 0.7
    )  # a change that knows the format gets further in; one that does not is found out by a checksum
    if knowing:
        data = containers.WAYS[kind](data, draw, other)
    if not knowing or draw.random() < 0.1:
        data = changed(data, draw, other=other)
    return Case(number, kind, "picture", {f"a.{SUFFIX[kind]}": data})


def _archive(number: int, kind: str, draw: Random, other: bytes) -> Case:
    options = {"panels": draw.random() < 0.15, "again": draw.random() < 0.2, "all_frames": draw.random() < 0.3}
    if kind == "rpa":
        data, index = archives.rpa(draw, other)
        files = {"game.rpa": data} | ({} if index is None else {"game.rpi": index})
        return Case(number, kind, "unpack", files, {"file": "game.rpa", **options})
    if kind == "video":
        name, data = archives.video(draw, other)
        # FFmpeg need not give the same of a damaged film twice, so a second run proves nothing.
        return Case(number, kind, "unpack", {name: data}, {"file": name, **options, "again": False})
    if kind == "tar":
        return Case(number, kind, "unpack", {"a.tar": archives.tar(draw, other)}, {"file": "a.tar", **options})
    name = "77_ugoira.zip" if kind == "ugoira" else draw.choice(["a.zip", "a.cbz", "..zip", "unpacked.jsonl"])
    return Case(
        number, kind, "unpack", {name: archives.zipped(draw, other, ugoira=kind == "ugoira")}, {"file": name, **options}
    )


def _source(number: int, kind: str, draw: Random, other: bytes) -> Case:
    door = draw.choice(list(layouts.SOURCES))
    return Case(number, kind, door, layouts.SOURCES[door](draw, other))


def _tags(number: int, kind: str, draw: Random, other: bytes) -> Case:
    return Case(number, kind, "tags", layouts.tags(draw, other))


MAKERS: dict[str, Callable[[int, str, Random, bytes], Case]] = {
    "video": _archive, "tar": _archive, "zip": _archive, "ugoira": _archive, "rpa": _archive, "json": _source, "tags": _tags,
}  # fmt: skip

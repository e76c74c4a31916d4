"""Pixiv's animations: a zip of numbered frames, with their delays inside or in a JSON beside. Knows the shapes that downloaders
write; the frames of one are nearly one picture, so the first stands for all unless all are asked for.

A comic may number its pages in the same way: so only what says that it is an animation is taken for one.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from .caps import BadMember
from .member import Member
from .streams import read_up_to
from .zips import ZipArchive

FRAME = re.compile(r"\d{6}\.(?:jpe?g|png|webp)", re.IGNORECASE)
SAYS = "animation.json"
MAX_JSON_BYTES = 4 * 1024 * 1024
MAX_DELAY_MS = 10 * 60 * 1000


class UgoiraArchive:
    """The frames of an animation, with `frame` and `delay_ms` among their facts.

    Args:
        every: all frames; else the first alone.
    """

    kind = "ugoira"

    def __init__(self, frames: ZipArchive, *, every: bool) -> None:
        self.frames, self.every, self.path = frames, every, frames.path
        self.delays = _delays(frames)
        self.count: int | None = frames.count

    def __iter__(self) -> Iterator[Member]:
        number = 0
        for member in self.frames:
            if not FRAME.fullmatch(member.name):
                yield member
                continue
            facts: dict[str, Any] = {"frame": number}
            if member.name in self.delays:
                facts["delay_ms"] = self.delays[member.name]
            number += 1
            if number > 1 and not self.every and member.reason is None:
                yield Member(member.name, reason="later_frame", detail="the first frame stands for the animation")
            else:
                yield replace(member, facts=facts)


def is_ugoira(archive: ZipArchive) -> bool:
    """Numbered frames, and a word that they are an animation: inside, in the name of the file, or in the JSON beside it."""
    names = [entry.name for entry in archive.entries]
    numbered = sum(bool(FRAME.fullmatch(name)) for name in names)
    if numbered < 2 or any(not FRAME.fullmatch(name) and name != SAYS for name in names):
        return False
    return SAYS in names or "ugoira" in archive.path.name.lower() or bool(_beside(archive.path))


def _delays(archive: ZipArchive) -> dict[str, int]:
    for member in archive:
        if member.name == SAYS and member.open is not None:
            try:
                return _frames(read_up_to(member.open(), MAX_JSON_BYTES))
            except BadMember:
                break
    return _beside(archive.path)


def _beside(path: Path) -> dict[str, int]:
    for sidecar in (path.with_name(path.name + ".json"), path.with_suffix(".json")):
        if os.path.isfile(sidecar) and sidecar.stat().st_size <= MAX_JSON_BYTES:
            return _frames(sidecar.read_bytes())
    return {}


def _frames(data: bytes) -> dict[str, int]:
    """File -> delay in milliseconds, of `{"frames": [{"file": ..., "delay": ...}]}`, at the top or one object further in."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    for place in [value, *(value.values() if isinstance(value, dict) else ())]:
        frames = place.get("frames") if isinstance(place, dict) else place
        if isinstance(frames, list) and frames and all(isinstance(frame, dict) for frame in frames):
            return {
                str(frame["file"]): frame["delay"]
                for frame in frames
                if isinstance(frame.get("delay"), int) and "file" in frame and 0 <= frame["delay"] <= MAX_DELAY_MS
            }
    return {}

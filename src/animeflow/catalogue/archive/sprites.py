"""Ren'Py's names of sprites, `eileen happy.png`: a tag, then what it looks like. Knows names; looks at no picture.

Pictures with one tag in one folder are versions of one figure, as their maker named them. That is a hint, to be held against the
pictures themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

# Tags that sort pictures by their use: two with one of these are two places, not one figure.
USES = frozenset(
    ["bg", "background", "cg", "ev", "event", "scene", "gui", "ui", "button", "icon", "map", "title", "menu", "overlay"]
)


def sprite_of(member: str) -> tuple[str, tuple[str, ...]] | None:
    """Tag and attributes of a file name as Ren'Py reads it; None where the name has one word, or a tag that is a use."""
    stem = PurePosixPath(member).stem.lower().partition("@")[0]  # "@2" says that it is drawn at twice the size
    words = stem.split()
    if len(words) < 2 or words[0] in USES:
        return None
    return words[0], tuple(words[1:])


def add_sprites(rows: Sequence[dict[str, Any]]) -> None:
    """Write `sprite`, `attributes` and, for all but the first of a figure, `version_of` (the first one's file) into rows."""
    first: dict[tuple[str, str], str] = {}
    for row in sorted(rows, key=lambda row: str(row["member"])):
        sprite = sprite_of(row["member"])
        if sprite is None:
            continue
        row["sprite"], row["attributes"] = sprite[0], list(sprite[1])
        head = first.setdefault((str(PurePosixPath(row["member"]).parent), sprite[0]), row["file"])
        if head != row["file"]:
            row["version_of"] = head

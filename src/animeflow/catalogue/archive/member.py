"""One thing in an archive, and the archive as its reader gives it. Knows names and bytes; knows no format."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from .caps import BadMember

MAX_NAME_BYTES, MAX_PART_BYTES, MAX_PARTS = (
    1000,
    200,
    32,
)  # a writer's temporary name is longer than the part, up to 255 bytes
_DRIVE = re.compile(r"[A-Za-z]:")


class Stream(Protocol):
    """Bytes in order. `read` gives at most `size` of them, none at the end, and raises BadMember."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True)
class Member:
    """A file of an archive. With a `reason` it is left out.

    Attributes:
        name: as the archive has it, with `/`.
        open: its bytes from the start; to be read before the next member is asked for.
        whole: of the bytes of a picture, those that count (Ren'Py counts a prefix in two ways).
        facts: what the archive knows besides: the delay of a frame, the place of a shot.
    """

    name: str
    open: Callable[[], Stream] | None = None
    reason: str | None = None
    detail: str = ""
    whole: Callable[[bytes], bytes] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


class Archive(Protocol):
    """A file with files in it. `count` is None where it is not known before the end."""

    kind: str
    path: Path
    count: int | None

    def __iter__(self) -> Iterator[Member]: ...


def safe_parts(name: str) -> tuple[str, ...]:
    """The parts of a name that stays below its folder on every system. Raises BadMember("unsafe_name") and ("hidden")."""
    if not name or "\0" in name or "\\" in name or any(ord(letter) < 32 or ord(letter) == 127 for letter in name):
        raise BadMember("unsafe_name", "it is empty, or has a backslash or a control character")
    if name.startswith("/") or _DRIVE.match(name):
        raise BadMember("unsafe_name", "an absolute path")
    parts = tuple(part for part in name.removeprefix("./").split("/"))
    if any(part in ("", ".", "..") for part in parts):
        raise BadMember("unsafe_name", "it has '..', '.' or an empty part")
    try:
        sizes = [len(part.encode()) for part in parts]
    except UnicodeEncodeError as error:
        raise BadMember("unsafe_name", "it is no Unicode text") from error
    if len(parts) > MAX_PARTS or sum(sizes) > MAX_NAME_BYTES or max(sizes) > MAX_PART_BYTES:
        raise BadMember(
            "unsafe_name", f"over {MAX_PARTS} folders, {MAX_PART_BYTES} bytes a part or {MAX_NAME_BYTES} in all"
        )
    if any(part.startswith(".") for part in parts):
        raise BadMember("hidden", "names that begin with a dot are left alone")
    return parts


def shown(name: str) -> str:
    """A name for a person's terminal: nothing in it moves the cursor, and it is not long."""
    text = name.encode("unicode_escape", "backslashreplace").decode() if not name.isprintable() else name
    return text if len(text) <= 160 else f"{text[:120]}...{text[-30:]}"


def overlapping(ranges: Iterable[tuple[int, int, int]]) -> dict[int, int]:
    """Of (start, end, key): key -> the key whose bytes it shares, for each that begins before an earlier one ends. So no byte of an
    archive is given out twice, and a small file cannot name itself into a large one."""
    found: dict[int, int] = {}
    reach, owner = -1, -1
    for start, end, key in sorted(ranges):
        if start < reach:
            found[key] = owner
        elif end > reach:
            reach, owner = end, key
    return found

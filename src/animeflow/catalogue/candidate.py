"""What a source offers: a file and the facts that somebody wrote about it. Knows no pixel and no table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ..text.tags import empty_tags


@dataclass
class Facts:
    """The part of a Post that does not come from the file's bytes. `surfaces` are all tags as found, for the blocklist only;
    `source` is the concept of a picture, where it has one, and stands for the adapter's name; `unsorted` says that the record names
    no tag's category, so that all of them are general."""

    tags: dict[str, list[str]] = field(default_factory=empty_tags)
    captions: dict[str, str] = field(default_factory=dict)
    rating: str = "unknown"
    score: int | None = None
    created_at: str | None = None
    source_id: str | None = None
    url: str | None = None
    origin: str = "unknown"
    truth: dict[str, Any] | None = None
    site: str | None = None
    source: str | None = None
    surfaces: tuple[str, ...] = ()
    licence: str | None = None
    evidence: tuple[str, ...] = ()
    generator: str | None = None
    generation: int | None = None
    parent: str | None = None
    unsorted: bool = False


@dataclass
class Candidate:
    """One thing a source found. With a `reason` it is refused before it is opened.

    Attributes:
        path: the picture's file, or what stands for it (a sidecar, "post 17") when `reason` says that there is none.
        md5: of the file that the record is about, where it says so: the name alone may have brought the two together.
    """

    path: Path
    facts: Facts = field(default_factory=Facts)
    reason: str | None = None
    detail: str = ""
    md5: str | None = None


class Source(Protocol):
    """An iterable of candidates in an order that does not change from run to run. `name` and `root` identify it."""

    name: str
    root: Path

    def __iter__(self) -> Iterator[Candidate]: ...

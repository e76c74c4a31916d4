"""What a folder holds that a LoRA could learn from, as plain values. Knows no file's bytes and no config."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...catalogue.post import Post

OTHER = "no_picture"  # neither picture nor sidecar: nothing to worry about
EMPTY = "empty"  # a mask or alpha that shows nothing of its picture: all of it counts
SMALL = ("too_small", "too_cropped")  # reasons of `data.assign`
CURATE = "left_out_by_the_query"
GENERATED = "made_by_a_generator"  # and left out by the query for that


@dataclass(frozen=True)
class Seen:
    """One picture that can be used.

    Attributes:
        uid: of the picture in the catalogue; it decides whether the picture is held out.
        facts: what its sidecars say: `tags` by category, `captions` by language, `rating`.
        masked: what tells the figure from its background: "sidecar", "alpha", "" or EMPTY.
        proven: its pixels were decoded; of large sets only the header is read before the run.
        origin: what its file and its sidecars say. sign: the strongest word for it.
    """

    path: Path
    uid: int
    width: int
    height: int
    format: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    masked: str = ""
    proven: bool = True
    origin: str = "unknown"
    sign: str = ""

    @property
    def tags(self) -> tuple[str, ...]:
        """Of all categories, as names."""
        return tuple(dict.fromkeys(name for names in self.facts.get("tags", {}).values() for name in names))

    @property
    def sentence(self) -> bool:
        return bool(self.facts.get("captions"))

    def post(self, source: str) -> Post:
        """As the catalogue will have it, as far as a plan asks."""
        return Post(
            uid=self.uid, sha256=f"{self.uid:016x}", path=str(self.path), width=self.width, height=self.height, bytes=0,
            format=self.format, tags=dict(self.facts.get("tags", {})), captions=dict(self.facts.get("captions", {})),
            rating=str(self.facts.get("rating", "unknown")), score=None, created_at=None, source=source, source_id=None,
            url=None, origin=self.origin, truth=None, split="train",
        )  # fmt: skip


@dataclass(frozen=True)
class Dropped:
    """A file that will not be used, and why. `uid` is that of a whole picture, which only has no place in this run; `allow` is
    the setting that takes what is GENERATED."""

    path: Path
    reason: str
    detail: str = ""
    uid: int | None = None
    allow: str = ""


@dataclass(frozen=True)
class Group:
    """Pictures of one thing: a folder.

    Attributes:
        name: of the concept, a word that config keys can bear.
        title: the folder's own name, which the trigger comes from.
        regularisation: they show the class and not the concept.
    """

    name: str
    title: str
    root: Path
    pictures: tuple[Seen, ...]
    regularisation: bool = False

    @property
    def captions(self) -> Counter[str]:
        """How many pictures have tags, a sentence, both or nothing beside them."""
        kinds = {(True, True): "both", (True, False): "tags", (False, True): "sentences", (False, False): "none"}
        return Counter(kinds[bool(seen.tags), seen.sentence] for seen in self.pictures)


@dataclass(frozen=True)
class Found:
    """Everything in a folder, every file once: used in a group, or dropped."""

    folder: Path
    groups: tuple[Group, ...]
    dropped: tuple[Dropped, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def concepts(self) -> tuple[Group, ...]:
        return tuple(group for group in self.groups if not group.regularisation)

    @property
    def regularisation(self) -> tuple[Group, ...]:
        return tuple(group for group in self.groups if group.regularisation)

    @property
    def pictures(self) -> tuple[Seen, ...]:
        """Of the concepts, without those of regularisation."""
        return tuple(seen for group in self.concepts for seen in group.pictures)

    @property
    def reasons(self) -> Counter[str]:
        return Counter(each.reason for each in self.dropped)


def allowing(dropped: Iterable[Dropped]) -> list[str]:
    """The settings that take those back that were left out for being generated."""
    return sorted({each.allow for each in dropped if each.allow})

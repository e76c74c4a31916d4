"""One picture and its facts. Knows JSON and Parquet's types; knows no file on disk."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from ..core.files import canonical, sha256
from ..text.tags import CATEGORIES

ORIGINS = ("human", "ai", "ai_assisted", "drawn_by_program", "unknown")


def uid_of(digest: str) -> int:
    """The identity of a picture: the first 63 bits of the sha256 of its file."""
    return int(digest[:16], 16) >> 1


@dataclass(frozen=True)
class Post:
    """One picture and its facts; one row of the catalogue.

    Attributes:
        uid: first 63 bits of `sha256`; the key of everything later.
        sha256: of the file's bytes.
        path: relative to the catalogue's root with `/`, or absolute.
        width, height: pixels after the EXIF orientation. bytes: of the file. format: PNG, JPEG, ...
        tags: category (general, character, copyright, artist, meta) to names with underscores.
        captions: language ("en", "ja", ...) to sentences.
        rating: general, sensitive, questionable, explicit or unknown.
        score, created_at (ISO, UTC), source_id, url: as the source says, None where it does not.
        source: name of the adapter, with the site where it has one; of the concept, where a catalogue has several.
        origin: human, ai, ai_assisted, drawn_by_program or unknown. Absence of proof is `unknown`.
        truth: what a drawing program knows about its picture, None for all others.
        split: train or val, a function of the uid.
    """

    uid: int
    sha256: str
    path: str
    width: int
    height: int
    bytes: int
    format: str
    tags: dict[str, list[str]]
    captions: dict[str, str]
    rating: str
    score: int | None
    created_at: str | None
    source: str
    source_id: str | None
    url: str | None
    origin: str
    truth: dict[str, Any] | None
    split: str

    def as_dict(self) -> dict[str, Any]:
        """JSON of the post: what travels in shards."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Post:
        """The inverse of `as_dict`; further keys are ignored."""
        return cls(**{f.name: facts[f.name] for f in dataclasses.fields(cls)})

    def digest(self) -> str:
        """16 hex digits that change with any fact."""
        return sha256(canonical(self.as_dict()))[:16]

    def as_row(self) -> dict[str, Any]:
        """The row in Parquet: maps as pairs, truth as JSON, the digest beside."""
        row = self.as_dict()
        row["captions"] = sorted(self.captions.items())
        row["truth"] = None if self.truth is None else canonical(self.truth).decode()
        return row | {"digest": self.digest()}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Post:
        facts = dict(row)
        captions = facts["captions"]  # DuckDB gives a dict, pyarrow gives pairs
        facts["captions"] = dict(captions or {})
        facts["truth"] = None if facts["truth"] is None else json.loads(facts["truth"])
        return cls.from_dict(facts)


SCHEMA = pa.schema(
    [
        ("uid", pa.int64()),
        ("sha256", pa.string()),
        ("path", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("bytes", pa.int64()),
        ("format", pa.string()),
        ("tags", pa.struct([(category, pa.list_(pa.string())) for category in CATEGORIES])),
        ("captions", pa.map_(pa.string(), pa.string())),
        ("rating", pa.string()),
        ("score", pa.int64()),
        ("created_at", pa.string()),
        ("source", pa.string()),
        ("source_id", pa.string()),
        ("url", pa.string()),
        ("origin", pa.string()),
        ("truth", pa.string()),
        ("split", pa.string()),
        ("digest", pa.string()),
    ]
)

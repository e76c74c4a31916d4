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

LATER = ("licence", "snapshot", "evidence", "generator", "generation", "parent")  # absent in catalogues of before
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
        licence: what the source, or the person who named the folder, says of its licence. snapshot: date on which it was taken.
        evidence: what speaks for its origin, strongest first: `certain ai png_text AUTOMATIC1111`, `certain ai tag ai-generated`.
        generator: the tool or model that made it. generation: 0 for people's work, n + 1 for what a model of generation n made.
        parent: `source_id` of the post that it is a version of, as the source says.
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
    licence: str | None = None
    snapshot: str | None = None
    evidence: tuple[str, ...] = ()
    generator: str | None = None
    generation: int | None = None
    parent: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON of the post: what travels in shards. Facts that came later are left out where there are none, so that the digests of
        older posts, and what was made of them, stay."""
        facts = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        facts["evidence"] = list(self.evidence)
        return {name: value for name, value in facts.items() if name not in LATER or value not in (None, [])}

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Post:
        """The inverse of `as_dict`; further keys are ignored."""
        known = {f.name: facts[f.name] for f in dataclasses.fields(cls) if f.name in facts or f.name not in LATER}
        return cls(**known | {"evidence": tuple(facts.get("evidence") or ())})

    def digest(self) -> str:
        """16 hex digits that change with any fact."""
        return sha256(canonical(self.as_dict()))[:16]

    def as_row(self) -> dict[str, Any]:
        """The row in Parquet: maps as pairs, truth as JSON, the digest beside."""
        row = dict.fromkeys(LATER) | self.as_dict()
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
        ("licence", pa.string()),
        ("snapshot", pa.string()),
        ("evidence", pa.list_(pa.string())),
        ("generator", pa.string()),
        ("generation", pa.int32()),
        ("parent", pa.string()),
    ]
)

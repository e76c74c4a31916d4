"""What is known of where a set's pictures are from, in counts and in sentences for a model card. Knows columns of posts.

Every number is counted from the rows. Silence is never read as "none": a picture without evidence is of unknown origin, and a claim
for a whole folder is called a claim.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from ..catalogue.post import ORIGINS, SCHEMA
from ..core.errors import ConfigError, DataError, did_you_mean
from ..image.evidence.sign import Sign
from .query import SYNTHETIC
from .selection import Selection

CERTIFY = "certify"
COLUMNS = ("uid", "origin", "evidence", "generator", "source", "licence", "snapshot", "rating")
WORDS = {
    "human": "by people",
    "drawn_by_program": "drawn by a program",
    "unknown": "of unknown origin",
    "ai_assisted": "made with a generator's help",
    "ai": "made by a generator",
}


@dataclass(frozen=True, kw_only=True)
class Requirements:
    """What must be known of every picture before a set is certified, and before shards are cut from it.

    Args:
        origin: no picture of unknown origin; CERTIFY asks so when a set is certified, and lets shards be cut.
        licence: every picture has a note on its licence.
        snapshot: every picture says when it was taken.
        reviewed: share of the pictures that a person decided to keep, at least.
    """

    origin: bool | str = CERTIFY
    licence: bool = False
    snapshot: bool = False
    reviewed: float = 0.0

    def __post_init__(self) -> None:
        if self.origin not in (CERTIFY, True, False):
            known = (CERTIFY, "true", "false")
            raise ConfigError(
                f"'{self.origin}' is unknown{did_you_mean(str(self.origin), known)}",
                where="curate.require.origin", do=f"choose one of: {', '.join(known)}",
            )  # fmt: skip
        if not 0 <= self.reviewed <= 1:
            raise ConfigError(
                f"reviewed={self.reviewed} is not a share", where="curate.require.reviewed", do="choose 0 to 1"
            )

    @property
    def of_shards(self) -> Requirements:
        """What is asked before shards are cut: a set can be built while nobody vouches for its origins yet."""
        return replace(self, origin=self.origin is True)


@dataclass(frozen=True)
class Statement:
    """Counts over the pictures of a set.

    Attributes:
        origins: by origin. evidence: by kind of it, pictures with at least one such sign.
        claimed: pictures by people, or drawn by a program, for which only people and the source's settings speak.
        sources: source -> pictures. licences: note -> pictures; those without one under "". generators: tool -> pictures.
        reviewed: pictures that somebody decided to keep. missing: what `Requirements` asks and how many pictures lack it.
        snapshot: first and last day on which pictures were taken, None where no picture says.
        selection: the query that chose them: its name, version and hash, and the counts per rule.
    """

    pictures: int
    origins: dict[str, int]
    evidence: dict[str, int]
    claimed: int
    sources: dict[str, int]
    licences: dict[str, int]
    generators: dict[str, int]
    ratings: dict[str, int]
    reviewed: int
    snapshot: tuple[str, str] | None
    missing: dict[str, int] = field(default_factory=dict)
    selection: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"selection": dict(self.selection)}

    def sentences(self) -> list[str]:
        """The statement for a model card."""
        total = self.pictures
        synthetic = sum(self.origins.get(name, 0) for name in SYNTHETIC)
        unknown = self.origins.get("unknown", 0)
        lines = [
            f"{synthetic:,} of {total:,} pictures are known to be synthetic, and {unknown:,} are of unknown origin."
        ]
        parts = [f"{count:,} {WORDS[name]}" for name in WORDS if (count := self.origins.get(name, 0))]
        if parts:
            lines.append(f"By origin: {', '.join(parts)}.")
        if self.claimed:
            lines.append(
                f"For {self.claimed:,} of them the origin is what a person says, or whoever named their source; nothing in the "
                "files speaks against it."
            )
        if self.evidence:
            lines.append(f"Evidence: {', '.join(f'{kind} {count:,}' for kind, count in self.evidence.items())}.")
        lines.append(
            f"{self.reviewed:,} pictures ({_share(self.reviewed, total)}) were kept by a person who looked at them."
        )
        if self.snapshot:
            first, last = self.snapshot
            lines.append(f"Taken on {first}." if first == last else f"Taken from {first} to {last}.")
        without = self.licences.get("", 0)
        lines.append(f"{total - without:,} pictures have a note on their licence, {without:,} have none.")
        return lines


def statement(
    posts: pa.Table, kept: set[int], *, require: Requirements | None = None, selection: Mapping[str, Any] | None = None
) -> Statement:
    """Count.

    Args:
        posts: the set's pictures, one row each, with COLUMNS.
        kept: uids that a person decided to keep.
        require: what `missing` counts; pictures of unknown origin by default.
        selection: the query, for the record.
    """
    require, origins = require or Requirements(), _counts(posts["origin"])
    days = pc.drop_null(posts["snapshot"])
    reviewed = len(kept.intersection(posts["uid"].to_pylist())) if kept else 0
    licences = _counts(pc.fill_null(posts["licence"], ""))
    evidence, silent = _evidence(posts)
    missing = {
        "origin": origins.get("unknown", 0) if require.origin else 0,
        "licence": licences.get("", 0) if require.licence else 0,
        "snapshot": posts["snapshot"].null_count if require.snapshot else 0,
        "reviewed": max(0, -int(-len(posts) * require.reviewed // 1) - reviewed),
    }
    return Statement(
        pictures=len(posts), origins=origins, evidence=evidence, claimed=silent, sources=_counts(posts["source"]),
        licences=licences, generators=_counts(pc.drop_null(posts["generator"])), ratings=_counts(posts["rating"]),
        reviewed=reviewed, snapshot=(pc.min(days).as_py(), pc.max(days).as_py()) if len(days) else None,
        missing={name: count for name, count in missing.items() if count}, selection=selection or {},
    )  # fmt: skip


def insist(found: Statement) -> None:
    """Raises DataError where the set lacks what was required of it, or has no picture at all."""
    if not found.pictures:
        raise _empty(found)
    if not found.missing:
        return
    asked = {
        "origin": "are of unknown origin",
        "licence": "have no note on their licence",
        "snapshot": "do not say when they were taken",
        "reviewed": "more have to be kept by a person",
    }
    do = {
        "origin": "say what is known of origins (animeflow decide --origin, +catalogue.source.origin=human for a folder), leave "
        "the unknown ones out (curate.provenance.unknown=forbid), or let them be unknown (curate.require.origin=false)",
        "licence": "note it (catalogue.licence), or ask for none (curate.require.licence=false)",
        "snapshot": "note the day (catalogue.snapshot), or ask for none (curate.require.snapshot=false)",
        "reviewed": "look at them (animeflow decide --keep), or ask for fewer (curate.require.reviewed)",
    }
    raise DataError(
        "; ".join(f"{count:,} of {found.pictures:,} pictures {asked[name]}" for name, count in found.missing.items()),
        where=", ".join(f"curate.require.{name}" for name in found.missing),
        why="what is not known is not proven, and a statement that says more would not be true",
        do="; ".join(do[name] for name in found.missing),
    )


def _empty(found: Statement) -> DataError:
    counts = found.selection.get("counts", {})
    left_out = ", ".join(f"{name} {fates['dropped']:,}" for name, fates in counts.items() if fates["dropped"])
    synthetic = [name for name in SYNTHETIC if counts.get(f"origin.{name}", {}).get("dropped")]
    take = "".join(f", curate.provenance.{name}=allow takes what is {WORDS[name]}" for name in synthetic)
    return DataError(
        "the set has no picture",
        where=f"curate ({found.selection.get('name', 'open')})",
        why=f"left out: {left_out}" if left_out else "the catalogue is empty",
        do=f"'animeflow filter' says which rule takes what out{take}"
        if left_out
        else "run 'animeflow catalogue' first",
    )


def _evidence(posts: pa.Table) -> tuple[dict[str, int], int]:
    """Pictures by kind of evidence, and how many of people or programs have none at all."""
    lists = pc.list_value_length(posts["evidence"])
    some = pc.greater(pc.fill_null(lists, 0), 0)
    kinds: Counter[str] = Counter()
    for words in posts["evidence"].filter(some).to_pylist():
        kinds.update({f"{sign.grade} {sign.kind}" for sign in map(Sign.parse, words)})
    said = pc.is_in(posts["origin"], pa.array(["human", "drawn_by_program"]))
    return dict(sorted(kinds.items())), pc.sum(pc.and_(said, pc.invert(some))).as_py() or 0


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    return {
        row["values"]: row["counts"] for row in sorted(pc.value_counts(column).to_pylist(), key=lambda r: r["values"])
    }


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "none"


def statement_of(chosen: Selection, *, require: Requirements | None = None) -> Statement:
    """About what a selection took, with the origins and decisions of people."""
    table = pads.dataset(chosen.folder / "catalogue.parquet", schema=SCHEMA).to_table(columns=list(COLUMNS))
    names = pa.array(np.array(ORIGINS)[chosen.origins])
    people = chosen.decided.filter(pc.equal(chosen.decided["review"], "keep"))
    return statement(
        table.set_column(table.schema.get_field_index("origin"), "origin", names).filter(pa.array(chosen.rows)),
        set(people["uid"].to_pylist()),
        require=require,
        selection=chosen.recorded(),
    )

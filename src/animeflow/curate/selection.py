"""What a query takes out of a catalogue: one step decides on each picture, so what is in and what each step dropped sum to all.

Knows tables; opens no picture. Nothing here runs Python for a row but `posts`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads

from ..catalogue.post import ORIGINS, SCHEMA, Post
from ..catalogue.table import Catalogue
from ..core.errors import ConfigError, DataError
from ..core.files import sha256
from ..image.evidence.sign import SAYS
from .cap import allowed, chosen
from .copies import drawings_rejected, not_best
from .query import Query
from .slices import slices
from .split import together
from .steps import REST, Step, first_fit, steps
from .view import View


@dataclass(frozen=True)
class Selection:
    """What is in, and what decided on every picture.

    Attributes:
        steps: all that was in force, in order.
        uids: of what is in, int64, in the order of the table.
        step_of: number of the step that decided, of every row of the table. all_uids: of every row.
        origins: the origin of every row as people and evidence say, a place in `ORIGINS`.
    """

    query: Query
    folder: Path
    steps: tuple[Step, ...]
    all_uids: np.ndarray
    step_of: np.ndarray
    origins: np.ndarray
    decided: pa.Table
    groups: dict[str, pa.Table]

    def __len__(self) -> int:
        return int(self.rows.sum())

    @cached_property
    def rows(self) -> np.ndarray:
        """Whether each row of the table is in, bool."""
        return np.array([step.action == "keep" for step in self.steps], bool)[self.step_of]

    @cached_property
    def uids(self) -> np.ndarray:
        return self.all_uids[self.rows]

    @cached_property
    def counts(self) -> dict[str, dict[str, int]]:
        """Step -> pictures that it dropped or kept. They sum to all."""
        found = np.bincount(self.step_of, minlength=len(self.steps)).tolist()
        return {
            step.name: {"dropped": 0, "kept": 0} | {"dropped" if step.action == "drop" else "kept": count}
            for step, count in zip(self.steps, found, strict=True)
        }

    @property
    def total(self) -> int:
        return len(self.step_of)

    @property
    def is_trivial(self) -> bool:
        """Whether the set is as if there were no query: the open one, and all is in."""
        return self.query.is_open and len(self) == self.total

    def why(self, uid: int) -> str:
        """One line: what decided on a picture. Raises ConfigError for one that is not here."""
        places = np.flatnonzero(self.all_uids == uid)
        if not len(places):
            raise ConfigError(f"no picture has the uid {uid}", where=str(self.folder))
        step = self.steps[int(self.step_of[places[0]])]
        fate = "in" if step.action == "keep" else "out"
        if step.name == REST:
            return "in: no rule speaks of it"
        told = f"{fate}: {step.name} ({step.of}{', ' + step.setting if step.setting else ''}): {step.what}; {step.why}"
        if step.approved_by:
            told += f"; approved by {step.approved_by}"
        if step.name.startswith("people.") and (reason := self._reason(uid)):
            told += f" ({reason})"
        return told

    def _reason(self, uid: int) -> str:
        rows = self.decided.filter(pa.array(self.decided["uid"].to_numpy() == uid)).to_pylist()
        return f"{', '.join(rows[0]['reviewers'])}: {rows[0]['review_reason'] or rows[0]['review']}" if rows else ""

    def posts(self, *, val_share: float | None = None) -> Iterator[Post]:
        """What is in, in the order of the table, with the origin that people stated.

        Args:
            val_share: of the catalogue; then versions of a drawing are on one side, as the query asks.
        """
        stated = _stated(self.decided)
        splits = self._splits(val_share)
        start = 0
        for batch in pads.dataset(self.folder / "catalogue.parquet", schema=SCHEMA).to_batches(use_threads=False):
            inside = self.rows[start : start + len(batch)]
            start += len(batch)
            for row in batch.filter(pa.array(inside)).to_pylist() if inside.any() else ():
                post = Post.from_row(row)
                if post.uid in stated:
                    post = _as_stated(post, *stated[post.uid])
                split = splits.get(post.uid, post.split)
                yield post if split == post.split else dataclasses.replace(post, split=split)

    def _splits(self, val_share: float | None) -> dict[int, str]:
        if val_share is None or self.query.splits != "groups" or not any(map(len, self.groups.values())):
            return {}
        tied = pa.concat_tables(table.rename_columns(["uid", "group"]) for table in self.groups.values())
        ends = np.union1d(tied["uid"].to_numpy(), tied["group"].to_numpy())
        return together(self.uids[np.isin(self.uids, ends)], tied, val_share=val_share)

    def as_dict(self) -> dict[str, Any]:
        """JSON of it: the query with all that was in force, and what became of all pictures."""
        return {
            "query": self.query.resolved() | {"hash": self.query.hash},
            "total": self.total,
            "kept": len(self),
            "dropped": self.total - len(self),
            "steps": [step.as_dict() | self.counts[step.name] for step in self.steps],
            "uids": sha256(self.uids.astype("<i8").tobytes())[:32],
        }

    def recorded(self) -> dict[str, Any]:
        """What a set says of the query that made it, in its manifest."""
        counts = {name: fates for name, fates in self.counts.items() if any(fates.values())}
        facts = {"name": self.query.name, "version": self.query.version, "hash": self.query.hash}
        return facts | {"query": self.query.resolved(), "counts": counts}


def select(catalogue: Catalogue | Path | str, query: Query, *, where: str = "curate") -> Selection:
    """Decide on every picture of a catalogue, as last committed; a folder will do, and then no row is held in memory.

    Raises:
        ConfigError: a condition cannot be run.
        DataError: there is no catalogue, or what the query needs was not made yet.
    """
    folder = catalogue.folder if isinstance(catalogue, Catalogue) else Path(catalogue)
    if query.groups == "best" and not (folder / "groups.parquet").exists():
        raise DataError(
            f"query '{query.name}' takes one file of each drawing, and nobody has looked which are alike",
            where=str(folder), do="run 'animeflow dedup' first, or set curate.groups=keep",
        )  # fmt: skip
    columns = query.columns() | ({"group_best"} if query.groups == "best" else set())
    with View(folder, scores=query.score_names(), columns=columns) as view:
        every = steps(query, view.scores)
        for rule in query.rules:
            view.check(rule.condition, where=f"{where}.rules ({rule.name})")
        asked = {
            "uid": "uid",
            "step": first_fit(every),
            "origin": f"(list_position({list(ORIGINS)}, origin) - 1)::tinyint",
        }
        if query.groups == "best":
            asked |= {"pixels": "width::bigint * height", "bytes": "bytes", "best": "coalesce(group_best, -1)"}
        found = view.select(asked)
        step_of = found["step"].astype(np.uint16)
        _as_a_whole(step_of, every, query, view, found)
        decided, groups = view.decided, view.groups
    return Selection(query, folder, tuple(every), found["uid"], step_of, found["origin"], decided, groups)


def _as_a_whole(step_of: np.ndarray, every: list[Step], query: Query, view: View, found: dict[str, np.ndarray]) -> None:
    """The steps that look at more than one picture, each at what those before it left in."""
    uids, number = found["uid"], {step.name: place for place, step in enumerate(every)}
    keeps = np.array([step.action == "keep" for step in every], bool)
    if "copies" in number:
        rows = np.flatnonzero(found["best"] >= 0)
        groups = found["best"][rows]
        rejected = np.isin(groups, groups[np.isin(uids[rows], drawings_rejected(view.decided))])
        if query.decisions != "ignored":
            gone = rows[rejected]
            step_of[gone[keeps[step_of[gone]]]] = number["copies.rejected"]
        inside = keeps[step_of[rows]]
        step_of[not_best(rows[inside], groups[inside], uids, found["pixels"], found["bytes"])] = number["copies"]
    caps = {origin: policy.cap for origin, policy in query.provenance.items() if policy.cap is not None}
    if caps:
        inside = keeps[step_of]
        counts = np.bincount(found["origin"][inside], minlength=len(ORIGINS)).tolist()
        for origin, count in allowed(dict(zip(ORIGINS, counts, strict=True)), caps).items():
            rows = np.flatnonzero(inside & (found["origin"] == ORIGINS.index(origin)))
            step_of[rows[~chosen(uids[rows], count, origin)]] = number[f"cap.{origin}"]
    if query.slice is not None:
        part, of = query.slice
        step_of[keeps[step_of] & (slices(uids, of) != part)] = number["slice"]


def _as_stated(post: Post, origin: str, people: str) -> Post:
    """What people say of an origin is above all signs; signs that say otherwise go."""
    if origin not in SAYS:
        return dataclasses.replace(post, origin=origin, evidence=())
    said = f"certain {origin} reviewer {people}"
    return dataclasses.replace(
        post, origin=origin, evidence=(said, *(each for each in post.evidence if f" {origin} " in each))
    )


def _stated(decided: pa.Table) -> dict[int, tuple[str, str]]:
    """uid -> origin and reviewers, of pictures whose origin people stated."""
    stated = decided.filter(decided["reviewed_origin"].is_valid())
    return {
        row["uid"]: (row["reviewed_origin"], ",".join(row["reviewers"]))
        for row in stated.select(["uid", "reviewed_origin", "reviewers"]).to_pylist()
    }

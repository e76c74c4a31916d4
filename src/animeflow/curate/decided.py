"""What people decided as columns beside the catalogue: the fold of the log, one row a picture. Knows Arrow; knows no rule.

`decisions.parquet` is a cache: it says of which bytes of the log it is the fold, and is made anew when they are others.
"""

from __future__ import annotations

import contextlib
import logging
import os
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ..catalogue.post import uid_of
from ..core.files import atomic_path, sha256
from .decisions import NAME, TORN, DecisionLog

log = logging.getLogger(__name__)

FILE = "decisions.parquet"
TAIL = 2**16
SCHEMA = pa.schema(
    [
        ("uid", pa.int64()),
        ("sha256", pa.string()),
        ("review", pa.string()),
        ("review_reason", pa.string()),
        ("reviewers", pa.list_(pa.string())),
        ("reviewed_at", pa.string()),
        ("disputed", pa.bool_()),
        ("reviewed_origin", pa.string()),
    ]
)


def decided(folder: str | Path) -> pa.Table:
    """A row for every picture that somebody said something of, by uid. A line that was cut short is told of, and left as it is."""
    folder, mark = Path(folder), _mark(Path(folder) / NAME)
    if mark is None:
        return SCHEMA.empty_table()
    with contextlib.suppress(OSError, pa.ArrowException):
        found = pq.read_table(folder / FILE)
        if (found.schema.metadata or {}).get(b"log") == mark.encode():
            return found.replace_schema_metadata(None)
    table = columns(DecisionLog(folder))
    with (
        contextlib.suppress(OSError),
        atomic_path(folder / FILE) as temporary,
    ):  # a folder that can only be read costs the time
        pq.write_table(table.replace_schema_metadata({"log": mark}), temporary, compression="zstd")
    return table


def columns(log: DecisionLog) -> pa.Table:
    """The fold of a log, by uid."""
    told = [(uid_of(sha), sha, state) for sha, state in log.states().items()]
    rows = [(uid, sha, s) for uid, sha, s in told if s.reviewers]
    fields = [
        [uid for uid, _, _ in rows],
        [sha for _, sha, _ in rows],
        *([getattr(state, name) for _, _, state in rows] for name in ("review", "reason", "reviewers", "reviewed_at")),
        *([getattr(state, name) for _, _, state in rows] for name in ("disputed", "origin")),
    ]
    arrays = [pa.array(values, kind) for values, kind in zip(fields, SCHEMA.types, strict=True)]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)  # by sha256, so by uid: one is the beginning of the other


def _mark(file: Path) -> str | None:
    """Which bytes the log has: it only grows, so its length and its end tell. None for no log."""
    try:
        with open(file, "rb") as lines:
            size = os.fstat(lines.fileno()).st_size
            lines.seek(max(0, size - TAIL))
            end = lines.read()
    except FileNotFoundError:
        return None
    if end and not end.endswith(b"\n"):
        _tell_of_torn(file, len(end) - end.rfind(b"\n") - 1)
    return f"{size} {sha256(end)}"


@cache  # once for a program that asks of it in several places
def _tell_of_torn(file: Path, size: int) -> None:
    log.warning(
        "%s ends in the middle of a line (%s bytes), which decides nothing here: a writer was stopped before it had said that the "
        "decision is kept. The next 'animeflow decide' puts the piece into %s; decide again what you miss",
        file, f"{size:,}", file.parent / TORN,
    )  # fmt: skip

"""Rows in groups of one size, and the table's counts. Knows Arrow only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .post import SCHEMA

ROWS_PER_GROUP = 8192
COUNTED = ("source", "rating", "origin", "split", "format")


def write(file: Path, tables: Iterable[pa.Table]) -> dict[str, Any]:
    """Parquet in groups of a fixed number of rows, so that the bytes depend on the rows alone. Returns the manifest's counts."""
    counts: dict[str, Counter[str]] = {name: Counter() for name in COUNTED}
    posts = size = 0
    with pq.ParquetWriter(file, SCHEMA, compression="zstd") as writer:
        for group in groups(tables):
            writer.write_table(group.combine_chunks())
            posts, size = posts + len(group), size + pc.sum(group["bytes"]).as_py()
            for name, counter in counts.items():
                for entry in pc.value_counts(group[name]).to_pylist():
                    counter[entry["values"]] += entry["counts"]
    return {"posts": posts, "bytes": size} | {name: dict(sorted(counts[name].items())) for name in COUNTED}


def groups(tables: Iterable[pa.Table], size: int = ROWS_PER_GROUP) -> Iterator[pa.Table]:
    """The same rows in tables of one size; the last may be shorter."""
    waiting: list[pa.Table] = []
    rows = 0
    for table in tables:
        waiting.append(table)
        rows += len(table)
        while rows >= size:
            whole = pa.concat_tables(waiting)
            yield whole.slice(0, size)
            waiting, rows = [whole.slice(size)], rows - size
    if rows:
        yield pa.concat_tables(waiting)

"""Rows of the table in groups: old ones kept as they are, changed ones replaced in place, new ones at the end. Knows Arrow only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .post import SCHEMA, Post

ROWS_PER_GROUP = 8192
COUNTED = ("source", "rating", "origin", "split", "format")


def merged(
    old: Iterable[pa.RecordBatch], changed: Mapping[str, Post | None], new: Iterable[Post]
) -> Iterator[pa.Table]:
    """Tables of any length: old rows with those of `changed` (by sha256) replaced or, for None, left out; then the new ones."""
    shas = pa.array(sorted(changed), pa.string())
    for batch in old:
        table = pa.Table.from_batches([batch], SCHEMA)
        if changed and pc.any(pc.is_in(table["sha256"], shas)).as_py():
            posts = (changed.get(row["sha256"], row) for row in table.to_pylist())
            rows = [post.as_row() if isinstance(post, Post) else post for post in posts if post is not None]
            table = pa.Table.from_pylist(rows, SCHEMA)
        yield table
    posts_left = iter(new)
    while rows := [post.as_row() for post in islice(posts_left, ROWS_PER_GROUP)]:
        yield pa.Table.from_pylist(rows, SCHEMA)


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


def groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of ROWS_PER_GROUP; the last may be shorter."""
    waiting: list[pa.Table] = []
    rows = 0
    for table in tables:
        waiting.append(table)
        rows += len(table)
        while rows >= ROWS_PER_GROUP:
            whole = pa.concat_tables(waiting)
            yield whole.slice(0, ROWS_PER_GROUP)
            waiting, rows = [whole.slice(ROWS_PER_GROUP)], rows - ROWS_PER_GROUP
    if rows:
        yield pa.concat_tables(waiting)

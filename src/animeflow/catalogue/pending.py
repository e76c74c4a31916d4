"""Changes of a table that are not written yet: rows that are new, other or gone, as Arrow's columns. Knows row numbers and posts;
knows no file.

As objects a post takes five times as much memory as in columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .post import SCHEMA, Post

SOME = 1024  # posts that are kept as objects until they become columns
GONE = -1

Numbers = NDArray[np.int64]


class Pending:
    """What becomes of the rows of a table.

    Args:
        rows: that the table has; new ones are numbered after them.
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self._new, self._other = _Columns(), _Columns()
        self._at: dict[int, int] = {}  # row -> its place in `_other`, or GONE

    def __bool__(self) -> bool:
        return bool(len(self._new) or self._at)

    def add(self, post: Post) -> int:
        """Its row."""
        self._new.add(post)
        return self.rows + len(self._new) - 1

    def replace(self, row: int, post: Post) -> None:
        self._at[row] = len(self._other)
        self._other.add(post)

    def remove(self, row: int) -> None:
        self._at[row] = GONE

    def applied(self, table: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
        """The rows of the table as they are to be: others replaced, some left out, the new ones at the end."""
        others, start = self._other.tables(), 0
        rows = np.array(sorted(self._at), np.int64)
        places = np.array([self._at[row] for row in rows.tolist()], np.int64)
        for batch in self._all(table):
            some = slice(*np.searchsorted(rows, (start, start + len(batch))).tolist())
            yield _changed(batch, rows[some] - start, places[some], others)
            start += len(batch)

    def _all(self, table: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
        for batch in table:
            yield pa.Table.from_batches([batch], SCHEMA)
        yield from self._new.tables()


class _Columns:
    """Posts in the order in which they came, SOME to a table."""

    def __init__(self) -> None:
        self._tables: list[pa.Table] = []
        self._recent: list[Post] = []

    def __len__(self) -> int:
        return len(self._tables) * SOME + len(self._recent)

    def add(self, post: Post) -> None:
        self._recent.append(post)
        if len(self._recent) == SOME:
            self._tables.append(_table(self._recent))
            self._recent = []

    def tables(self) -> list[pa.Table]:
        return [*self._tables, *([_table(self._recent)] if self._recent else [])]


def _changed(table: pa.Table, rows: Numbers, places: Numbers, others: Sequence[pa.Table]) -> pa.Table:
    """The table with `rows` replaced by what lies in `others` at `places`, or left out."""
    if not len(rows):
        return table
    take, added, length = np.arange(len(table)), [table], len(table)
    for number in np.unique(places[places != GONE] // SOME).tolist():
        mine = (places != GONE) & (places // SOME == number)
        added.append(others[number].take(pa.array(places[mine] % SOME)))
        take[rows[mine]] = np.arange(length, length + mine.sum())
        length += int(mine.sum())
    return pa.concat_tables(added).combine_chunks().take(pa.array(np.delete(take, rows[places == GONE])))


def _table(posts: list[Post]) -> pa.Table:
    return pa.Table.from_pylist([post.as_row() for post in posts], SCHEMA)

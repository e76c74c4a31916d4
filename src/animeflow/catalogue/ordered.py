"""Tables that are in the order of their uids, merged into one as they are read. Knows Arrow and numpy; knows no file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def merged(sources: Sequence[Iterator[pa.Table]]) -> Iterator[pa.Table]:
    """The rows of all sources in order, each of which is in order; of a uid that several have, those of the last source."""
    heads = [_Head(source) for source in sources]
    while heads := [head for head in heads if head.fill()]:  # their order stays
        open_ends = [head.last for head in heads if not head.ended]
        limit = min(open_ends) if open_ends else None  # below it no source has more than is in memory
        taken = [head.take(limit) for head in heads]
        if len(filled := [each for each in taken if len(each[0])]) == 1:
            yield filled[0][1]
        elif filled:
            yield _last_of_each(filled)


class _Head:
    """The next rows of a source."""

    def __init__(self, source: Iterator[pa.Table]) -> None:
        self._source, self.ended = source, False
        self._uids: NDArray[np.int64] = np.empty(0, np.int64)
        self._table: pa.Table | None = None

    @property
    def last(self) -> int:
        return int(self._uids[-1])

    def fill(self) -> bool:
        """Have rows of more than one uid, or all that are left: rows of a uid may be in two groups. False where none are left."""
        while not self.ended and (not len(self._uids) or self._uids[0] == self._uids[-1]):
            table = next(self._source, None)
            if table is None:
                self.ended = True
            elif len(table):
                self._table = table if not len(self._uids) else pa.concat_tables([self._table, table])
                self._uids = np.concatenate([self._uids, table["uid"].to_numpy()])
        return len(self._uids) > 0

    def take(self, limit: int | None) -> tuple[NDArray[np.int64], pa.Table]:
        """Those below a uid, or all."""
        assert self._table is not None
        at = len(self._uids) if limit is None else int(np.searchsorted(self._uids, limit, "left"))
        taken = self._uids[:at], self._table.slice(0, at)
        self._uids, self._table = self._uids[at:], self._table.slice(at)
        return taken


def _last_of_each(parts: Sequence[tuple[NDArray[np.int64], pa.Table]]) -> pa.Table:
    uids = np.concatenate([each for each, _ in parts])
    source = np.repeat(np.arange(len(parts)), [len(each) for each, _ in parts])
    order = np.lexsort((source, uids))  # it is stable: rows of a uid keep their order
    uids, source = uids[order], source[order]
    ends = np.flatnonzero(np.append(uids[1:] != uids[:-1], True))
    best = np.repeat(source[ends], np.diff(ends, prepend=-1))
    return pa.concat_tables([table for _, table in parts]).take(pa.array(order[source == best]))

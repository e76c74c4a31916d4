"""Which row has these bytes, and which this path: of millions of rows in arrays, about 130 bytes each. Knows the columns' form;
knows no post.

As dictionaries of text the same would take four times as much.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

COLUMNS = ("sha256", "path", "digest")
_BATCH = 65_536


class Index:
    """Of the rows of a table, by their numbers.

    Attributes:
        homeless: sha256 of rows whose path a later row has: a run was killed before it had seen all files that changed places.
    """

    def __init__(self, shas: NDArray[np.uint8], paths: pa.LargeStringArray, digests: NDArray[np.uint64]) -> None:
        self._shas, self._paths, self._digests = shas, paths, digests
        self._by_sha = Sorted(np.ascontiguousarray(shas[:, :8]).view(">u8").reshape(-1).astype(np.uint64))
        hashes = [np.empty(0, np.uint64)]
        for start in range(0, len(paths), _BATCH):
            texts = paths.slice(start, _BATCH).to_pylist()
            hashes.append(np.fromiter(map(number_of, texts), np.uint64, len(texts)))
        self._by_path = Sorted(np.concatenate(hashes))
        self.homeless = {
            self.sha(earlier) for earlier, later in self._by_path.twins() if self.path(earlier) == self.path(later)
        }

    @classmethod
    def empty(cls) -> Index:
        return cls(np.empty((0, 32), np.uint8), pa.array([], pa.large_string()), np.empty(0, np.uint64))

    @classmethod
    def read(cls, file: Path) -> Index:
        """Of a catalogue's table."""
        shas, paths, digests = (
            [np.empty((0, 32), np.uint8)],
            [pa.array([], pa.large_string())],
            [np.empty(0, np.uint64)],
        )
        with pq.ParquetFile(file) as table:
            for batch in table.iter_batches(_BATCH, columns=list(COLUMNS)):
                shas.append(
                    np.frombuffer(bytes.fromhex("".join(batch["sha256"].to_pylist())), np.uint8).reshape(-1, 32)
                )
                paths.append(batch["path"].cast(pa.large_string()))
                told = bytes.fromhex("".join(batch["digest"].to_pylist()))
                digests.append(np.frombuffer(told, ">u8").astype(np.uint64))
        return cls(np.concatenate(shas), pa.concat_arrays(paths), np.concatenate(digests))

    def __len__(self) -> int:
        return len(self._shas)

    def row_of(self, sha256: str) -> int | None:
        """The row with these bytes."""
        rows = self._by_sha.find(int(sha256[:16], 16))
        return next((row for row in rows if self.sha(row) == sha256), None)

    def row_at(self, path: str) -> int | None:
        """The last row with this path."""
        return next((row for row in reversed(self._by_path.find(number_of(path))) if self.path(row) == path), None)

    def sha(self, row: int) -> str:
        return self._shas[row].tobytes().hex()

    def path(self, row: int) -> str:
        return str(self._paths[row].as_py())

    def digest(self, row: int) -> str:
        return f"{int(self._digests[row]):016x}"


class Sorted:
    """Rows by a number of each, that a few may share."""

    def __init__(self, numbers: NDArray[np.uint64]) -> None:
        self._order = np.argsort(numbers, kind="stable").astype(np.uint32)
        self._numbers = numbers[self._order]

    def find(self, number: int) -> list[int]:
        """Ascending."""
        at, found = int(np.searchsorted(self._numbers, np.uint64(number))), []
        while at < len(self._numbers) and int(self._numbers[at]) == number:
            found.append(int(self._order[at]))
            at += 1
        return found

    def twins(self) -> list[tuple[int, int]]:
        """Neighbours of one number."""
        at = np.flatnonzero(self._numbers[1:] == self._numbers[:-1])
        return list(zip(self._order[at].tolist(), self._order[at + 1].tolist(), strict=True))


class Texts:
    """Which of many texts there were, in 8 bytes each. Two of eight million are taken for one in one of 600,000 runs."""

    RECENT = 65_536

    def __init__(self) -> None:
        self._recent: set[int] = set()
        self._older: list[NDArray[np.uint64]] = []  # sorted, each more than half as long again as the next

    def __contains__(self, text: str) -> bool:
        return self._has(number_of(text))

    def add(self, text: str) -> bool:
        """Whether it is new."""
        if self._has(number := number_of(text)):
            return False
        self._recent.add(number)
        if len(self._recent) >= self.RECENT:
            newest = np.fromiter(self._recent, np.uint64, len(self._recent))
            while self._older and len(self._older[-1]) <= 2 * len(newest):
                newest = np.concatenate([self._older.pop(), newest])
            self._older.append(np.sort(newest))
            self._recent = set()
        return True

    def _has(self, number: int) -> bool:
        if number in self._recent:
            return True
        asked = np.uint64(number)
        for numbers in self._older:
            at = int(np.searchsorted(numbers, asked))
            if at < len(numbers) and numbers[at] == asked:
                return True
        return False


def number_of(text: str) -> int:
    """Of this process alone: Python draws another function for every one, so that nobody can make two texts meet."""
    return hash(text) & 0xFFFFFFFFFFFFFFFF

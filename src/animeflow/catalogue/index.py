"""Which row has these bytes, and which this path: of millions of rows in arrays, about 130 bytes each. Knows the columns' form;
knows no post.

As dictionaries of text the same would take four times as much.
"""

from __future__ import annotations

import tempfile
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
        met = {row for both in self._by_path.twins() for row in both}
        self.homeless = {self.sha(row) for row in met if self.row_at(self.path(row)) != row}

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
    """Which of many texts there were, in 16 bytes each. The texts lie in a file that nobody else sees; where numbers meet they are
    read, and texts that differ are told apart."""

    RECENT = 65_536
    SMALL = 16 * 2**20  # bytes of text up to which there is no file at all

    def __init__(self) -> None:
        self._texts = tempfile.SpooledTemporaryFile(self.SMALL)  # noqa: SIM115  it goes with the process
        self._end = 0
        self._recent: dict[int, int] = {}  # number -> where its text begins
        self._older: list[
            tuple[NDArray[np.uint64], NDArray[np.uint64]]
        ] = []  # sorted, each longer than half of the one before
        self._met: set[str] = set()  # texts whose number another had before

    def __contains__(self, text: str) -> bool:
        return (at := self._find(number_of(text))) is not None and (self._is_at(at, text) or text in self._met)

    def add(self, text: str) -> bool:
        """Whether it is new."""
        if (at := self._find(number := number_of(text))) is not None:
            if self._is_at(at, text) or text in self._met:
                return False
            self._met.add(text)
            return True
        self._recent[number] = self._end
        self._texts.seek(self._end)
        self._end += self._texts.write(_line(text))
        if len(self._recent) >= self.RECENT:
            self._put_away()
        return True

    def _put_away(self) -> None:
        """The recent ones become arrays; few are searched, for those of about one length become one."""
        numbers = np.fromiter(self._recent, np.uint64, len(self._recent))
        places = np.fromiter(self._recent.values(), np.uint64, len(self._recent))
        while self._older and len(self._older[-1][0]) <= 2 * len(numbers):
            more = self._older.pop()
            numbers, places = np.concatenate([more[0], numbers]), np.concatenate([more[1], places])
        order = np.argsort(numbers)
        self._older.append((numbers[order], places[order]))
        self._recent = {}

    def _find(self, number: int) -> int | None:
        """Where the first text of this number begins."""
        if number in self._recent:
            return self._recent[number]
        asked = np.uint64(number)
        for numbers, places in self._older:
            at = int(np.searchsorted(numbers, asked))
            if at < len(numbers) and numbers[at] == asked:
                return int(places[at])
        return None

    def _is_at(self, at: int, text: str) -> bool:
        self._texts.seek(at)
        return self._texts.read(len(line := _line(text))) == line


def _line(text: str) -> bytes:
    """No text's is the beginning of another's: none has a byte of zero."""
    return text.encode("utf-8", "surrogatepass") + b"\0"


def number_of(text: str) -> int:
    """Of this process alone: Python draws another function for every one, so that nobody can make two texts meet."""
    return hash(text) & 0xFFFFFFFFFFFFFFFF

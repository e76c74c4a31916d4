"""The list of files that were found and not taken: sorted lines of JSON, as many as there are. Knows one file; knows no picture."""

from __future__ import annotations

import contextlib
import filecmp
import heapq
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ..core.files import atomic_path

MOST = 65_536  # kept in memory; more of them wait in sorted files that nobody else sees


@dataclass(frozen=True, order=True)
class Rejection:
    """A file that was found and not taken, and why. `source` is the adapter and folder it came from."""

    path: str
    reason: str
    detail: str
    source: str


class Refusals:
    """Of a catalogue.

    Args:
        file: `rejected.jsonl`, sorted as it was written.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._new: set[Rejection] = set()
        self._runs: list[IO[str]] = []
        self._dropped: set[str] = set()
        self._judged: list[tuple[str, Callable[[str], bool]]] = []

    def __iter__(self) -> Iterator[Rejection]:
        """Sorted, each once."""
        last = None
        for refusal in heapq.merge(self._earlier(), *map(_read, self._runs), sorted(self._new)):
            if refusal != last:
                yield refusal
            last = refusal

    def add(self, refusal: Rejection) -> None:
        self._new.add(refusal)
        if len(self._new) >= MOST:
            run = tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n")  # noqa: SIM115  it goes with the process
            run.writelines(map(_line, sorted(self._new)))
            self._runs.append(run)
            self._new = set()

    def forget(self, source: str) -> None:
        """Drop what was listed for a source until now."""
        self._dropped.add(source)
        self._new = {refusal for refusal in self._new if refusal.source != source}
        if self._runs:
            kept = (refusal for run in self._runs for refusal in _read(run) if refusal.source != source)
            older, self._runs = self._runs, []
            for refusal in kept:
                self.add(refusal)
            for run in older:
                run.close()

    def sources(self) -> set[str]:
        """Those that the list names."""
        return {refusal.source for refusal in self}

    def forget_at(self, source: str, path_is: Callable[[str], bool]) -> None:
        """Drop of a source what was listed until the last writing for files with such paths."""
        self._judged.append((source, path_is))

    def write(self, *, counted: bool = True) -> Counter[str] | None:
        """Counts by reason, once the file is as the list; None when it was, and then it is not touched.

        Args:
            counted: somebody has the counts of the file as it is; else they are told anyway.
        """
        if counted and not (self._new or self._runs or self._dropped or self._judged) and self.file.exists():
            return None
        counts: Counter[str] = Counter()
        with contextlib.suppress(_Same), atomic_path(self.file) as temporary:
            with open(temporary, "w", encoding="utf-8", newline="\n") as lines:
                for refusal in self:
                    counts[refusal.reason] += 1
                    lines.write(_line(refusal))
            if same := self.file.exists() and filecmp.cmp(temporary, self.file, shallow=False):
                raise _Same
        for run in self._runs:
            run.close()
        self._new, self._runs, self._dropped, self._judged = set(), [], set(), []
        return None if same and counted else counts

    def _earlier(self) -> Iterator[Rejection]:
        if self.file.exists():
            # A newline alone ends a line: a detail may hold other signs that Python takes for one.
            with open(self.file, encoding="utf-8", newline="\n") as lines:
                yield from (refusal for refusal in _parsed(lines) if self._stays(refusal))

    def _stays(self, refusal: Rejection) -> bool:
        if refusal.source in self._dropped:
            return False
        return not any(refusal.source == source and path_is(refusal.path) for source, path_is in self._judged)


class _Same(Exception):
    """What was written is what is there."""


def _read(run: IO[str]) -> Iterator[Rejection]:
    run.seek(0)
    yield from _parsed(run)


def _parsed(lines: Iterable[str]) -> Iterator[Rejection]:
    return (Rejection(**json.loads(line)) for line in lines if line != "\n")


def _line(refusal: Rejection) -> str:
    return json.dumps(vars(refusal), ensure_ascii=False, sort_keys=True) + "\n"

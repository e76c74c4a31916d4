"""A tool over the pictures of a catalogue: what it says is kept beside the catalogue, and nothing is asked twice."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from ..catalogue import beside
from ..catalogue.reading import read_file
from ..core.errors import ConfigError
from ..core.log import progress
from ..image.decode import decode
from ..image.picture import BadPicture, Limits, Pixels

COMMIT = 2048  # pictures between two writes of what is new
HELD = 500_000  # scores that wait for it, at most
SHARE = 20  # merging takes all of the table: the next time waits this many times as long as the last one took

Say = Callable[[Sequence[Pixels]], Sequence[Mapping[str, float]]]
"""Pictures -> for each the scores by name."""


@dataclass
class Scored:
    """What came of a run: pictures asked about, those that were known, and those that could not be read, by reason."""

    asked: int = 0
    known: int = 0
    refused: dict[str, int] = field(default_factory=dict)


def scores_file(folder: Path, tool: str) -> Path:
    """Of a tool, beside the catalogue. Raises ConfigError for a name that would be a path."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", tool):
        raise ConfigError(f"'{tool}' is no name of a tool", do="use letters, digits, dots and hyphens")
    return folder / "scores" / f"{tool}.parquet"


def version_of_scores(folder: Path, tool: str) -> str:
    """Which version of a tool spoke, as its table says."""
    return beside.told(scores_file(folder, tool)).get("version", "")


def score_all(
    folder: Path,
    pictures: Iterable[tuple[int, Path]],
    say: Say,
    *,
    tool: str,
    version: str,
    batch: int = 16,
    threads: int = 2,
    limits: Limits | None = None,
) -> Scored:
    """Ask about every picture that the table of this tool and version does not have.

    Args:
        folder: of the catalogue. pictures: uid and file, in any order.
        version: of the tool; what another version said is forgotten.
    """
    file, about = scores_file(folder, tool), {"tool": tool, "version": version}
    if beside.told(file).get("version") != version:
        beside.forget(file)
    todo, result = _unknown(file, pictures)
    rows: list[dict[str, object]] = []
    unsaved, settled, took = 0, time.monotonic(), 0.0
    with progress(f"annotate {tool}", len(todo)) as advance, ThreadPoolExecutor(threads) as pool:
        for part in _parts(todo, batch):
            decoded = list(pool.map(lambda item: _decode(item[1], limits), part))
            whole = [
                (uid, pixels) for (uid, _), pixels in zip(part, decoded, strict=True) if not isinstance(pixels, str)
            ]
            for reason in (reason for reason in decoded if isinstance(reason, str)):
                result.refused[reason] = result.refused.get(reason, 0) + 1
            for (uid, _), scores in zip(whole, say([pixels for _, pixels in whole]) if whole else (), strict=True):
                rows += [{"uid": uid, "name": name, "score": score} for name, score in scores.items()]
                result.asked, unsaved = result.asked + 1, unsaved + 1
            advance(len(part))
            if unsaved >= COMMIT or len(rows) >= HELD:
                beside.append(file, beside.SCORES, rows, about=about)
                rows, unsaved = [], 0
                if (began := time.monotonic()) - settled >= SHARE * took:
                    beside.settle(file, beside.SCORES)
                    settled = time.monotonic()
                    took = settled - began
    beside.put(file, beside.SCORES, rows, about=about)
    return result


def _unknown(file: Path, pictures: Iterable[tuple[int, Path]]) -> tuple[list[tuple[int, Path]], Scored]:
    """Pictures that a table has no row of, and a count of the others."""
    every = list(pictures)
    asked = np.fromiter((uid for uid, _ in every), np.int64, len(every))
    there = np.isin(asked, beside.uids(file))
    return [every[at] for at in np.flatnonzero(~there).tolist()], Scored(known=len(np.unique(asked[there])))


class Told(Mapping[int, Mapping[str, float]]):
    """uid -> name -> score, in columns: as Python objects what a tagger says of millions would take tens of gigabytes.

    Args:
        table: of `beside.SCORES`, ascending by uid, as it is kept.
    """

    def __init__(self, table: pa.Table) -> None:
        self._uids = table["uid"].to_numpy()
        chunks = table["name"].dictionary_encode().chunks
        self._names = chunks[0].dictionary.to_pylist() if chunks else []
        self._numbers = np.concatenate([np.empty(0, np.int32), *(chunk.indices.to_numpy() for chunk in chunks)])
        self._scores = table["score"].to_numpy()

    def __getitem__(self, uid: int) -> dict[str, float]:
        start, stop = np.searchsorted(self._uids, uid, "left"), np.searchsorted(self._uids, uid, "right")
        if start == stop:
            raise KeyError(uid)
        names = [self._names[number] for number in self._numbers[start:stop].tolist()]
        return dict(zip(names, self._scores[start:stop].tolist(), strict=True))

    def __iter__(self) -> Iterator[int]:
        return iter(np.unique(self._uids).tolist())

    def __len__(self) -> int:
        return len(np.unique(self._uids))


def read_scores(folder: Path, tool: str) -> Told:
    """uid -> name -> score, of one tool."""
    return Told(beside.read(scores_file(folder, tool), beside.SCORES))


def _decode(file: Path, limits: Limits | None) -> Pixels | str:
    try:
        return decode(read_file(file), limits=limits).pixels
    except BadPicture as bad:
        return bad.reason
    except OSError:
        return "missing_file"


def _parts(items: Sequence[tuple[int, Path]], size: int) -> Iterator[Sequence[tuple[int, Path]]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]

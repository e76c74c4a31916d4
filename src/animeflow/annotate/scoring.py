"""A tool over the pictures of a catalogue: what it says is kept beside the catalogue, and nothing is asked twice."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ..catalogue import beside
from ..catalogue.reading import read_file
from ..core.errors import ConfigError
from ..core.log import progress
from ..image.decode import decode
from ..image.picture import BadPicture, Limits, Pixels

COMMIT = 2048  # pictures between two writes of the table

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
    if file.exists() and (pq.read_schema(file).metadata or {}).get(b"version") != version.encode():
        file.unlink()
    every = list(pictures)
    known = set(beside.read(file, beside.SCORES)["uid"].to_pylist())
    todo, result = (
        [item for item in every if item[0] not in known],
        Scored(known=len(known.intersection(u for u, _ in every))),
    )
    rows: list[dict[str, object]] = []
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
                result.asked += 1
            advance(len(part))
            if len(rows) and result.asked % COMMIT < batch:
                beside.put(file, beside.SCORES, rows, about=about)
                rows = []
    beside.put(file, beside.SCORES, rows, about=about)
    return result


def read_scores(folder: Path, tool: str) -> dict[int, dict[str, float]]:
    """uid -> name -> score, of one tool."""
    found: dict[int, dict[str, float]] = {}
    table: pa.Table = beside.read(scores_file(folder, tool), beside.SCORES)
    for uid, name, score in zip(*(table[column].to_pylist() for column in ("uid", "name", "score")), strict=True):
        found.setdefault(uid, {})[name] = score
    return found


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

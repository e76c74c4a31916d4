"""What is known about files from earlier runs, so that an unchanged one is not decoded again. Knows sizes and times; knows no post.

A cache in the full sense: removing `seen.parquet` costs time and changes nothing else.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..core.files import address, atomic_path
from ..image import fingerprint
from ..image.evidence import screen
from ..image.picture import Limits
from .check import Checked
from .reading import size_and_time

RULES = 2  # raise when `check` judges the same bytes in another way

_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("sha256", pa.string()),
        ("bytes", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("format", pa.string()),
        ("notes", pa.list_(pa.string())),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("print", pa.binary()),
        ("signs", pa.list_(pa.string())),
        ("measures", pa.map_(pa.string(), pa.float64())),
        ("rules", pa.string()),
    ]
)


class Seen:
    """Verdicts by path; a verdict holds for a file of the same size and modification time, under the same limits.

    Args:
        file: `seen.parquet` of the catalogue.
        limits: those of this run.
    """

    def __init__(self, file: Path, limits: Limits) -> None:
        self.file = file
        self._rules = address(
            rules=RULES, prints=fingerprint.VERSION, signs=screen.VERSION, limits=dataclasses.asdict(limits)
        )
        self._rows: dict[str, dict[str, Any]] = {}
        self._changed = False
        if file.exists():
            try:
                self._rows = {row["path"]: row for row in pq.read_table(file).to_pylist()}
            except (pa.ArrowException, OSError, KeyError):
                self._rows = {}  # a cache that cannot be read is an empty cache

    def get(self, key: str, path: Path) -> Checked | None:
        """The verdict about the unchanged file `path`, stored under `key`, else None."""
        row = self._rows.get(key)
        if row is None or row["rules"] != self._rules:
            return None
        if (row["bytes"], row["mtime_ns"]) != size_and_time(path):
            return None
        facts = {field.name: row[field.name] for field in dataclasses.fields(Checked)}
        return Checked(**facts | {name: tuple(row[name]) for name in ("notes", "signs", "measures")})

    def put(self, key: str, checked: Checked) -> None:
        row = {
            "path": key,
            "rules": self._rules,
            **vars(checked),
            "notes": list(checked.notes),
            "signs": list(checked.signs),
        }
        row["measures"] = list(checked.measures)
        if self._rows.get(key) != row:
            self._rows[key] = row
            self._changed = True

    def save(self) -> None:
        if not self._changed:
            return
        rows = [self._rows[path] for path in sorted(self._rows)]
        with atomic_path(self.file) as temporary:
            pq.write_table(pa.Table.from_pylist(rows, _SCHEMA), temporary, compression="zstd")
        self._changed = False

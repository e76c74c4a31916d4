"""What is known about files from earlier runs, so that an unchanged one is not decoded again. Knows sizes and times; knows no post.

A cache in the full sense: removing `seen.parquet` costs time and changes nothing else.
"""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

import numpy as np
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

    Those of earlier runs stay in Arrow's columns, about 1.5 KB each: as objects they would take three times as much.

    Args:
        file: `seen.parquet` of the catalogue.
        limits: those of this run.
    """

    def __init__(self, file: Path, limits: Limits) -> None:
        self.file = file
        self._rules = address(
            rules=RULES, prints=fingerprint.VERSION, signs=screen.VERSION, limits=dataclasses.asdict(limits)
        )
        self._new: dict[str, Checked] = {}
        self._hold(_SCHEMA.empty_table())
        if file.exists():
            with contextlib.suppress(pa.ArrowException, OSError):  # a cache that cannot be read is an empty cache
                self._hold(pq.read_table(file, schema=_SCHEMA))

    def get(self, key: str, path: Path) -> Checked | None:
        """The verdict about the unchanged file `path`, stored under `key`, else None."""
        checked = self._new.get(key) or self._earlier(key)
        if checked is None or (checked.bytes, checked.mtime_ns) != size_and_time(path):
            return None
        return checked

    def put(self, key: str, checked: Checked) -> None:
        if self._earlier(key) != checked:
            self._new[key] = checked
        else:
            self._new.pop(key, None)

    def save(self) -> None:
        if not self._new:
            return
        kept = np.ones(len(self._table), np.bool_)
        kept[[self._row_of[path] for path in self._new if path in self._row_of]] = False
        rows = [{"path": path, "rules": self._rules, **vars(self._new[path])} for path in sorted(self._new)]
        self._hold(pa.concat_tables([self._table.filter(pa.array(kept)), pa.Table.from_pylist(rows, _SCHEMA)]))
        self._new = {}
        with atomic_path(self.file) as temporary:
            pq.write_table(self._table, temporary, compression="zstd")

    def _hold(self, table: pa.Table) -> None:
        self._table = table
        self._row_of = {path: row for row, path in enumerate(table["path"].to_pylist())}

    def _earlier(self, key: str) -> Checked | None:
        row = self._row_of.get(key)
        if row is None or self._table["rules"][row].as_py() != self._rules:
            return None
        facts = {field.name: self._table[field.name][row].as_py() for field in dataclasses.fields(Checked)}
        return Checked(**facts | {name: tuple(facts[name]) for name in ("notes", "signs", "measures")})

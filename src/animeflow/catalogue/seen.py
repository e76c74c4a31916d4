"""What is known about files from earlier runs, so that an unchanged one is not decoded again. Knows sizes and times; knows no post.

A cache in the full sense: removing `seen.sqlite` costs time and changes nothing else.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import sqlite3
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..core.errors import DataError
from ..core.files import address
from ..image import fingerprint
from ..image.evidence import screen
from ..image.picture import Limits
from .check import Checked
from .reading import size_and_time

log = logging.getLogger(__name__)

RULES = 2  # raise when `check` judges the same bytes in another way

OLDER = "seen.parquet"  # the cache's name and form before; it is read once
_FIELDS = tuple(field.name for field in dataclasses.fields(Checked))
LATER = ("md5",)  # columns that caches of before have not: an empty text stands for them
_LISTS = ("notes", "signs", "measures")
_COLUMNS = ["place", "path", "rules", *_FIELDS]
# Rows lie in the order in which they came, which is that of the source, so that neighbours are read together; `place` is short,
# so that all of it fits into the memory that a run may use.
_SCHEMA = f"""
    begin immediate;
    create table if not exists seen (place integer, path text, rules text, {", ".join(_FIELDS)});
    create index if not exists place_of on seen (place);
    commit;
"""
MOST = 16_384  # kept in memory between two writes
_MEMORY = 64 * 2**20
_BATCH = 1024


class Seen:
    """Verdicts by path; a verdict holds for a file of the same size and modification time, under the same limits.

    Those of earlier runs stay on disk: a verdict has about 1.5 KB.

    Args:
        file: `seen.sqlite` of the catalogue. It is made when there is something to write.
        limits: those of this run.
    """

    def __init__(self, file: Path, limits: Limits) -> None:
        self.file = file
        self._rules = address(
            rules=RULES, prints=fingerprint.VERSION, signs=screen.VERSION, limits=dataclasses.asdict(limits)
        )
        self._new: dict[str, Checked] = {}
        self._database = _open(file) if file.exists() else None
        if (older := file.with_name(OLDER)).exists():  # whether or not a killed run has begun to take it over
            self._take_over(older)

    @property
    def full(self) -> bool:
        return len(self._new) >= MOST

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
        """What was put outlives a killed run. The file is not touched where that was nothing."""
        self._write(iter([(path, self._rules, checked) for path, checked in self._new.items()]))
        self._new = {}

    def close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def _earlier(self, key: str) -> Checked | None:
        if self._database is None:
            return None
        asked = f"select {', '.join(_FIELDS)} from seen where place = ? and path = ? and rules = ?"
        with self._trouble():
            row = self._database.execute(asked, (_place(key), key, self._rules)).fetchone()
            return None if row is None else _checked(dict(zip(_FIELDS, row, strict=True)))
        return None  # nothing is kept any more

    @contextlib.contextmanager
    def _trouble(self) -> Iterator[None]:
        """A cache that is damaged within goes; of a disk that is full, or may not be written to, somebody is told."""
        try:
            yield
        except sqlite3.OperationalError as error:
            why = f"{self.file} cannot be used: {error}"
            raise DataError(why, do="see to the disk, its rights, and other runs of the same catalogue") from error
        except sqlite3.DatabaseError:
            log.warning("%s is damaged and begins anew: files are read again", self.file)
            self.close()
            _remove(self.file)

    def _write(self, verdicts: Iterator[tuple[str, str, Checked]]) -> None:
        first = next(verdicts, None)
        if first is None:
            return
        if self._database is None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self._database = _open(self.file)
        marks = ", ".join("?" * (3 + len(_FIELDS)))
        with self._trouble(), _transaction(self._database) as database:
            for path, rules, checked in chain([first], verdicts):
                place = _place(path)
                database.execute("delete from seen where place = ? and path = ?", (place, path))
                database.execute(f"insert into seen values ({marks})", (place, path, rules, *_stored(checked)))

    def _take_over(self, older: Path) -> None:
        """What a run of an earlier version kept; where it cannot be read, nothing was kept."""
        with contextlib.suppress(pa.ArrowException, OSError), pq.ParquetFile(older) as table:
            if {*_COLUMNS} - {"place", *LATER} <= set(table.schema_arrow.names):
                self._write(_rows(table))
        older.unlink(missing_ok=True)


def _open(file: Path) -> sqlite3.Connection:
    """The cache; one that cannot be read, or of another form, is begun anew."""
    for _ in range(2):
        database = sqlite3.connect(file, isolation_level=None, timeout=60)
        try:
            database.execute(f"pragma cache_size = {-_MEMORY // 1024}")
            found = [row[1] for row in database.execute("pragma table_info(seen)")]
            if not found:
                database.executescript(_SCHEMA)
            if found and found == [name for name in _COLUMNS if name not in LATER]:
                for name in LATER:
                    database.execute(f"alter table seen add column {name} default ''")
                    found.append(name)
            if not found or found == _COLUMNS:
                return database
        except sqlite3.OperationalError as error:  # a full disk, a folder that cannot be written
            database.close()
            raise DataError(f"{file} cannot be opened: {error}", do="see to the disk and its rights") from error
        except sqlite3.DatabaseError:
            pass
        database.close()
        _remove(file)
    raise DataError(f"{file} cannot be made", do="see to the disk and its rights")


def _remove(file: Path) -> None:
    """With the journal of a killed run, which would be played into the next one."""
    for each in (file.with_name(f"{file.name}-journal"), file):
        each.unlink(missing_ok=True)


@contextlib.contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """All of it is written, or nothing."""
    database.execute("begin immediate")
    try:
        yield database
    except BaseException:
        if database.in_transaction:  # a full disk may have ended it
            database.execute("rollback")
        raise
    database.execute("commit")


def _place(path: str) -> int:
    return int.from_bytes(hashlib.blake2b(path.encode(), digest_size=8).digest(), "big", signed=True)


def _stored(checked: Checked) -> Iterator[Any]:
    for name in _FIELDS:
        value = getattr(checked, name)
        yield json.dumps(value) if name in _LISTS else value


def _checked(row: dict[str, Any]) -> Checked:
    lists = {name: json.loads(row[name]) for name in _LISTS}
    lists["measures"] = [(name, score) for name, score in lists["measures"]]
    return Checked(**row | {name: tuple(value) for name, value in lists.items()})


def _rows(table: pq.ParquetFile) -> Iterator[tuple[str, str, Checked]]:
    for batch in table.iter_batches(_BATCH, use_threads=False):
        for row in batch.to_pylist():
            facts: dict[str, Any] = {
                name: tuple(row[name]) if name in _LISTS else row[name] for name in _FIELDS if name in row
            }
            yield row["path"], row["rules"], Checked(**facts)

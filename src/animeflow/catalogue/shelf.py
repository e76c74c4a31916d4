"""Records that wait to be asked for, as many as there are: JSON in a temporary database that nobody else sees and that goes with
the process. Knows keys and records; knows no field."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

_MEMORY = 64 * 2**20
_SCHEMA = """
    create table records (number integer primary key, record text);
    create table keys (key blob primary key, number integer) without rowid;
"""


class Shelf:
    """Records by their keys; a record may have several."""

    def __init__(self) -> None:
        self._database = sqlite3.connect(
            "", isolation_level=None
        )  # a file only where it grows, in the folder for temporary files
        self._database.executescript(
            f"pragma cache_size = {-_MEMORY // 1024}; pragma journal_mode = off; {_SCHEMA} begin;"
        )

    def put(self, keys: Iterable[str], record: Mapping[str, Any], *, replace: bool = False) -> None:
        """Take a record for those of the keys that no earlier one has, or for all of them."""
        text = json.dumps(record, default=_plain)
        number = self._database.execute("insert into records (record) values (?)", (text,)).lastrowid
        how = "replace" if replace else "ignore"
        rows = [(_bytes(key), number) for key in keys]
        if self._database.executemany(f"insert or {how} into keys values (?, ?)", rows).rowcount < 1:
            self._database.execute("delete from records where number = ?", (number,))

    def get(self, key: str) -> dict[str, Any] | None:
        asked = "select record from keys join records using (number) where key = ?"
        row = self._database.execute(asked, (_bytes(key),)).fetchone()
        return None if row is None else dict(json.loads(row[0]))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Every record, in the order in which they came."""
        for (text,) in self._database.execute("select record from records order by number"):
            yield json.loads(text)


def _bytes(key: str) -> bytes:
    """A key may name a file whose name is no UTF-8."""
    return key.encode("utf-8", "surrogatepass")


def _plain(value: Any) -> Any:
    """What Parquet has and JSON has not: times are written as elsewhere, bytes are no fact of a post."""
    return value.isoformat() if hasattr(value, "isoformat") else None

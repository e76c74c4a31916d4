"""What every source says of the same bytes: `said.sqlite`. It has what counts for all copies of a picture: that it is forbidden, or
where it is from. Knows hashes, words of signs and paths; opens no picture.

It is no cache: of a picture that two sources have, the catalogue has one row, and what the other source says stands here alone.
Statements of a run are written by `save`; a killed run loses what came after the last one and says it again.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import DataError
from .index import Texts
from .origin import SAID_BY_SITE, Origin, kind_of, origin_of, strongest
from .post import Post, uid_of

BEFORE = (
    ""  # the source of what a catalogue of an earlier version holds: that of its row's path, until this is read again
)
_MEMORY = 64 * 2**20
_FACTS = "sha256, blocked, origin, evidence, bytes, mtime_ns"
_SCHEMA = f"""
    begin;
    create table said (source text, path text, uid integer, {_FACTS}, primary key (source, path)) without rowid;
    create index uid_of on said (uid);
    create table changed (uid integer primary key);
    commit;
"""


@dataclass(frozen=True)
class Statement:
    """Of one source about one file.

    Attributes:
        blocked: whether its words put the picture on the blocklist. Which words is never kept.
        origin, evidence: as in `Facts`, without what the file itself says.
        bytes, mtime_ns: of a file that is refused unopened, so that an unchanged one is not read again.
    """

    sha256: str
    blocked: bool = False
    origin: str = "unknown"
    evidence: tuple[str, ...] = ()
    bytes: int = 0
    mtime_ns: int = 0

    @property
    def counts(self) -> bool:
        return self.blocked or self.origin != "unknown" or bool(self.evidence)


class Said:
    """Statements of all sources, and which pictures they changed for.

    Args:
        file: `said.sqlite` of the catalogue. It is made when there is something to write.
        source: that is being read.
        earlier: the posts of a catalogue that has no such file yet.
    """

    def __init__(self, file: Path, source: str, earlier: Callable[[], Iterable[Post]]) -> None:
        self.file, self.source, self._touched = file, source, Texts()
        self._database = _open(file) if file.exists() else None
        if self._database is None:
            for post in earlier():
                told = tuple(word for word in post.evidence if kind_of(word) in SAID_BY_SITE)
                if (statement := Statement(post.sha256, origin=post.origin, evidence=told)).counts:
                    self._write(BEFORE, post.path, statement)

    def get(self, path: str) -> Statement | None:
        """What this source said of a file, now or in an earlier run."""
        row = self._ask(f"select {_FACTS} from said where source = ? and path = ?", (self.source, path))
        return _statement(row[0]) if row else None

    def of(self, sha256: str, *, besides: str | None = None) -> list[Statement]:
        """All that is said of these bytes; not what this source says of the file `besides`, nor what was known of it before."""
        rows = self._ask(f"select {_FACTS}, source, path from said where uid = ?", (uid_of(sha256),))
        return [
            _statement(row[:-2])
            for row in rows
            if row[0] == sha256 and not (row[-1] == besides and row[-2] in (self.source, BEFORE))
        ]

    def put(self, path: str, statement: Statement, *, alone: bool = False) -> None:
        """Take what this source says of a file now.

        Args:
            alone: no post but that of this very file has these bytes, and the caller makes it now: nobody else is to be told.
        """
        self._touched.add(path)
        before, now = self.get(path), statement if statement.counts else None
        older = self._ask("select sha256 from said where source = ? and path = ?", (BEFORE, path))
        if older:
            self._do("delete from said where source = ? and path = ?", (BEFORE, path))
        if before == now:
            return
        if now is None:
            self._do("delete from said where source = ? and path = ?", (self.source, path))
        else:
            self._write(self.source, path, now)
        for each in (before, now):
            if each is not None and not (alone and each.sha256 == statement.sha256):
                self._do("insert or ignore into changed values (?)", (uid_of(each.sha256),))

    def forget_others(self, holds: Callable[[str, str], bool]) -> None:
        """At the end of a source: what it said of files that it no longer has goes. What was forbidden stays so until the source
        says otherwise of the file; and the facts of a post whose file went stay with it.

        Args:
            holds: whether the post of these bytes (the second) has this path (the first).
        """
        asked = "select path, sha256 from said where source = ? and not blocked and path > ? order by path limit 1024"
        last = ""
        while rows := self._ask(asked, (self.source, last)):
            last = rows[-1][0]
            for path, sha256 in rows:
                if path not in self._touched and not holds(path, sha256):
                    self._do("delete from said where source = ? and path = ?", (self.source, path))
                    self._do("insert or ignore into changed values (?)", (uid_of(sha256),))

    def moved(self, path: str | None) -> None:
        """The post of this path has another one now; what was known of it before that is not said of the new one."""
        for (sha256,) in self._ask("select sha256 from said where source = ? and path = ?", (BEFORE, path)):
            self._do("delete from said where source = ? and path = ?", (BEFORE, path))
            self._do("insert or ignore into changed values (?)", (uid_of(sha256),))

    def changed(self) -> NDArray[np.int64]:
        """uids of pictures of which something else is said than when their posts were made, sorted; also those of a killed run."""
        rows = self._ask("select uid from changed order by uid", ())
        return np.fromiter((row[0] for row in rows), np.int64, len(rows))

    def save(self) -> None:
        """What was put outlives a killed run. The file is not touched where that was nothing."""
        if self._database is not None and self._database.in_transaction:
            self._database.execute("commit")

    def settle(self) -> None:
        """The posts are as `changed` asked for."""
        if self._database is None or self._ask("select uid from changed limit 1", ()):
            self._do("delete from changed", ())
        self.save()

    def close(self) -> None:
        """What was not saved is forgotten."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def _write(self, source: str, path: str, said: Statement) -> None:
        facts = (said.sha256, int(said.blocked), said.origin, json.dumps(said.evidence), said.bytes, said.mtime_ns)
        row = (source, path, uid_of(said.sha256), *facts)
        self._do(f"insert or replace into said values ({', '.join('?' * len(row))})", row)

    def _ask(self, query: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        if self._database is None:
            return []
        try:
            return self._database.execute(query, values).fetchall()
        except sqlite3.DatabaseError as error:
            raise _unreadable(self.file, error) from error

    def _do(self, command: str, values: tuple[Any, ...]) -> None:
        if self._database is None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self._database = _open(self.file)
        try:
            if not self._database.in_transaction:
                self._database.execute("begin immediate")
            self._database.execute(command, values)
        except sqlite3.DatabaseError as error:
            raise _unreadable(self.file, error) from error


def joined(claimed: str, told: Iterable[str], others: Iterable[Statement]) -> tuple[str, tuple[str, ...]]:
    """Claim and evidence of one source and of all others: what one of them knows of the bytes is so."""
    others = list(others)
    evidence = dict.fromkeys([*told, *(word for each in others for word in each.evidence)])
    return strongest([claimed, *(each.origin for each in others)]), tuple(evidence)


def origin_by(post: Post, statements: Iterable[Statement]) -> Origin:
    """Where a post is from, if this is all that is said of it besides what its file says."""
    claimed, told = joined("unknown", (), statements)
    signs = (word for word in post.evidence if kind_of(word) not in SAID_BY_SITE)
    return origin_of(claimed, told, signs, generator=post.generator)


def _statement(row: tuple[Any, ...]) -> Statement:
    sha256, blocked, origin, evidence, size, time = row
    return Statement(sha256, bool(blocked), origin, tuple(json.loads(evidence)), size, time)


def _open(file: Path) -> sqlite3.Connection:
    try:
        database = sqlite3.connect(file, isolation_level=None, timeout=60)
        database.execute(f"pragma cache_size = {-_MEMORY // 1024}")
        if not database.execute("pragma table_info(said)").fetchall():
            database.executescript(_SCHEMA)
        database.execute("select uid from changed limit 1")
        return database
    except sqlite3.DatabaseError as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception) -> DataError:
    return DataError(
        f"{file} cannot be read: {error}",
        why="it holds what several sources say of one picture, and what is forbidden",
        do="see to the disk and its rights; if it is broken, remove it and catalogue every source again",
    )

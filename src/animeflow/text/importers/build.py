"""Files of tags to one database: rows in the order that they need each other, conflicts listed, words judged. Writes SQLite."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from ...core.errors import DataError
from ..ambiguity import CLASSES, Ambiguous, Finder, Word
from ..blocklist import Blocklist
from ..database import SCHEMA, VERSION, TagDatabase, forbidden_words
from ..script import normal
from .fill import Filler
from .reading import Source, read
from .record import Implies, Row, Skipped, Surface, Tag


@dataclass
class FileReport:
    """What came of one file: rows by what they said, rows that said nothing by reason."""

    path: str
    kind: str
    licence: str | None
    rows: int = 0
    said: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)


@dataclass
class BuildReport:
    """What came of all files. `conflicts`: (kind, what) of every row that contradicts another one."""

    files: list[FileReport] = field(default_factory=list)
    conflicts: list[tuple[str, str]] = field(default_factory=list)
    totals: dict[str, int] = field(default_factory=dict)
    ambiguous: Counter[int] = field(default_factory=Counter)
    blocked: int = 0
    changed: bool = True

    def lines(self) -> list[str]:
        """The report in words."""
        found = []
        for file in self.files:
            said = ", ".join(f"{number:,} {what}" for what, number in sorted(file.said.items()))
            found.append(
                f"{file.path}: {file.kind}, licence {file.licence or 'not stated'}; {file.rows:,} rows: {said or 'nothing'}"
            )
            found += [f"  skipped {number:,}: {reason}" for reason, number in file.skipped.most_common()]
        kinds = Counter(kind for kind, _ in self.conflicts)
        found += [f"conflicts, {kind}: {number:,}" for kind, number in sorted(kinds.items())]
        found += [
            f"words of class {number} ({CLASSES[number]}): {count:,}"
            for number, count in sorted(self.ambiguous.items())
        ]
        found.append(forbidden(self.blocked))
        found.append("in all " + ", ".join(f"{number:,} {what}" for what, number in self.totals.items()))
        return found


def forbidden(number: int) -> str:
    """What is told of forbidden words: how many."""
    return f"forbidden words, kept for the blocklist alone: {number:,}"


def build(
    paths: Sequence[Path],
    out: Path,
    *,
    licence: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> BuildReport:
    """Read `paths` into the database `out`, which is made or added to, and is never seen half done.

    The order of the files makes no difference but between equally good sources of one word. Raises DataError for a file that
    cannot be read, before anything is written.
    """
    report, read_files = BuildReport(), []
    for path in paths:
        source, rows = read(path)
        read_files.append((source, list(rows)))
        report.files.append(FileReport(str(path), source.kind, source.licence or licence, len(read_files[-1][1])))
        if progress:
            progress(1)
    beside = out.with_name(f".{out.name}.{os.getpid()}.partial")
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        if out.exists():
            TagDatabase.open(out)
            shutil.copyfile(out, beside)
        else:
            beside.unlink(missing_ok=True)
        report.changed = _write(beside, read_files, report, licence)
        if report.changed:
            with open(beside, "rb") as file:
                os.fsync(file.fileno())
            os.replace(beside, out)
    finally:
        beside.unlink(missing_ok=True)
    return report


def _write(path: Path, files: list[tuple[Source, list[Row]]], report: BuildReport, licence: str | None) -> bool:
    """Whether anything became different."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        connection.executescript(SCHEMA)
        connection.execute("BEGIN")
        before = _state(connection)
        sources = [_source(connection, source, licence) for source, _ in files]
        _fill(Filler(connection), files, sources, report)
        _judge(connection, report)
        facts = {"version": str(VERSION), "identity": _identity(connection)}
        connection.executemany("INSERT OR REPLACE INTO about VALUES (?, ?)", sorted(facts.items()))
        changed = _state(connection) != before
        connection.execute("COMMIT")
        if changed:
            connection.execute("ANALYZE")
    finally:
        connection.close()
    return changed


def _state(connection: sqlite3.Connection) -> tuple[Any, ...]:
    """What is known of the content and of its sources, as it was written down last."""
    known = connection.execute("SELECT key, value FROM about ORDER BY key").fetchall()
    return known, connection.execute("SELECT COUNT(*) FROM meta").fetchone()


def _source(connection: sqlite3.Connection, source: Source, licence: str | None) -> int:
    """The number of a file; one of the same bytes keeps the number that it has."""
    values = (source.name, source.kind, source.date, source.licence or licence, source.hash)
    connection.execute("INSERT OR IGNORE INTO meta(source, kind, date, licence, hash) VALUES (?, ?, ?, ?, ?)", values)
    found = connection.execute("SELECT id FROM meta WHERE hash = ?", (source.hash,)).fetchone()
    return int(found[0])


def _fill(filler: Filler, files: list[tuple[Source, list[Row]]], sources: list[int], report: BuildReport) -> None:
    """Tags of all files first, then aliases, so that a word for an alias finds its tag, then everything else."""
    for (_, rows), file in zip(files, report.files, strict=True):
        file.said["tags"] += filler.tags(row for row in rows if isinstance(row, Tag))
        file.skipped.update(row.reason for row in rows if isinstance(row, Skipped))
    for _, rows in files:
        filler.learn_aliases(row for row in rows if isinstance(row, Surface))
    for (_, rows), file, source in zip(files, report.files, sources, strict=True):
        filler.surfaces((row for row in rows if isinstance(row, Surface)), source, file.said, file.skipped)
        filler.implications((row for row in rows if isinstance(row, Implies)), file.said, file.skipped)
    report.conflicts = filler.conflicts
    for file in report.files:
        file.said += Counter()  # without zeros
    if not filler.known:
        raise DataError(
            "there is no tag in these files",
            where=", ".join(file.path for file in report.files),
            why="aliases and translations say something of tags that a list names",
            do='give a list of tags too: name,category,count,"aliases", or Danbooru\'s tags.json',
        )


def _judge(connection: sqlite3.Connection, report: BuildReport) -> None:
    """Mark what is forbidden and what is ambiguous, and count."""
    _mark_blocked(connection)
    known = connection.execute("SELECT name, category FROM tag WHERE NOT blocked")
    finder = Finder((normal(name), category) for name, category in known)
    found = [each for meanings in _words(connection) for each in finder.classes(meanings)]
    report.ambiguous = Counter(each.number for each in found if not each.reviewed)
    _keep(connection, found)
    open_words = [(each.text,) for each in found]
    connection.execute("CREATE TEMP TABLE open_word(text TEXT PRIMARY KEY) WITHOUT ROWID")
    connection.executemany("INSERT OR IGNORE INTO temp.open_word VALUES (?)", open_words)
    connection.execute(
        """UPDATE surface SET ambiguous = NOT ambiguous
           WHERE ambiguous <> (kind <> 'canonical' AND text IN (SELECT text FROM temp.open_word))"""
    )
    report.blocked = forbidden_words(connection)
    count = "SELECT (SELECT COUNT(*) FROM tag), (SELECT COUNT(*) FROM surface), (SELECT COUNT(*) FROM implies)"
    report.totals = dict(zip(("tags", "words", "implications"), connection.execute(count).fetchone(), strict=True))


def _keep(connection: sqlite3.Connection, found: Iterable[Ambiguous]) -> None:
    """Write the list where it is not already there: a change of nothing is no change."""
    rows = sorted(
        (each.text, each.number, json.dumps(each.tags, ensure_ascii=False), int(each.reviewed)) for each in found
    )
    if rows != connection.execute("SELECT text, class, tags, reviewed FROM ambiguous ORDER BY text, class").fetchall():
        connection.execute("DELETE FROM ambiguous")
        connection.executemany("INSERT INTO ambiguous VALUES (?, ?, ?, ?)", rows)


def _mark_blocked(connection: sqlite3.Connection) -> None:
    """A word is forbidden with its tag, and a tag with its name, however it is written."""
    pairs = connection.execute(
        "SELECT s.text, t.name FROM surface s JOIN tag t ON t.id = s.tag_id WHERE s.kind <> 'canonical' AND s.reviewed >= 0"
    ).fetchall()
    blocklist = Blocklist.default().extended(pairs)
    names = [row[0] for row in connection.execute("SELECT name FROM tag")]
    texts = {row[0] for row in connection.execute("SELECT DISTINCT text FROM surface")}
    connection.execute("CREATE TEMP TABLE bad_tag(name TEXT PRIMARY KEY) WITHOUT ROWID")
    connection.execute("CREATE TEMP TABLE bad_word(text TEXT PRIMARY KEY) WITHOUT ROWID")
    connection.executemany("INSERT INTO temp.bad_tag VALUES (?)", [(name,) for name in blocklist.blocked(names)])
    bad = blocklist.blocked(texts)
    connection.executemany("INSERT INTO temp.bad_word VALUES (?)", [(text,) for text in bad])
    connection.execute(
        "UPDATE tag SET blocked = NOT blocked WHERE blocked <> (name IN (SELECT name FROM temp.bad_tag))"
    )
    connection.execute(
        """UPDATE surface SET blocked = NOT blocked WHERE blocked <> (text IN (SELECT text FROM temp.bad_word)
           OR tag_id IN (SELECT id FROM tag WHERE blocked))"""
    )


def _words(connection: sqlite3.Connection) -> Iterator[list[Word]]:
    """Words by their text, those that mean one tag by its own name left out."""
    rows = connection.execute(
        """SELECT s.text, t.name, t.category, s.lang, s.kind, s.reviewed FROM surface s JOIN tag t ON t.id = s.tag_id
           WHERE s.reviewed >= 0 AND NOT s.blocked AND s.text IN (SELECT text FROM surface WHERE kind <> 'canonical')
           ORDER BY s.text, t.name, s.lang"""
    )
    for _, group in groupby(rows, key=lambda row: row[0]):
        yield [Word(text, tag, category, lang, kind, bool(r)) for text, tag, category, lang, kind, r in group]


def _identity(connection: sqlite3.Connection) -> str:
    """A hash of all that readers can learn from it."""
    digest = hashlib.sha256(str(VERSION).encode())
    queries = (
        "SELECT name, category, count, deprecated, blocked FROM tag ORDER BY name",
        """SELECT t.name, s.lang, s.text, s.written, s.kind, s.confidence, s.reviewed, s.ambiguous, s.blocked
           FROM surface s JOIN tag t ON t.id = s.tag_id ORDER BY t.name, s.lang, s.text""",
        "SELECT a.name, b.name FROM implies i JOIN tag a ON a.id = i.child JOIN tag b ON b.id = i.parent ORDER BY a.name, b.name",
        "SELECT text, class, tags, reviewed FROM ambiguous ORDER BY text, class",
    )
    for query in queries:
        for row in connection.execute(query):
            digest.update(repr(row).encode())
    return digest.hexdigest()

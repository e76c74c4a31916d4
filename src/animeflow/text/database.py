"""The database of tags: one SQLite file with names, aliases, translations, implications. Knows SQL; knows no list of tags.

`TagDatabase` only reads. What writes is `importers.build`. Words that mean several tags are marked when the file is made: they are
found, with every meaning, but never given out for captions until a person has said which meaning is right.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..core.errors import DataError
from .blocklist import Blocklist
from .script import base, normal, speaks
from .settle import Proposal, proposals
from .tags import to_name

VERSION = 1
SCHEMA = """
CREATE TABLE IF NOT EXISTS tag(
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, category TEXT NOT NULL, count INTEGER, deprecated INTEGER NOT NULL DEFAULT 0,
    blocked INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS surface(
    tag_id INTEGER NOT NULL REFERENCES tag(id), lang TEXT NOT NULL, text TEXT NOT NULL, written TEXT NOT NULL, kind TEXT NOT NULL,
    source INTEGER NOT NULL, confidence REAL NOT NULL, reviewed INTEGER NOT NULL DEFAULT 0, ambiguous INTEGER NOT NULL DEFAULT 0,
    blocked INTEGER NOT NULL DEFAULT 0, PRIMARY KEY(text, tag_id, lang)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS words_of_a_tag ON surface(tag_id, lang);
CREATE TABLE IF NOT EXISTS implies(child INTEGER NOT NULL, parent INTEGER NOT NULL, PRIMARY KEY(child, parent)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ambiguous(
    text TEXT NOT NULL, class INTEGER NOT NULL, tags TEXT NOT NULL, reviewed INTEGER NOT NULL,
    PRIMARY KEY(text, class)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS meta(
    id INTEGER PRIMARY KEY, source TEXT NOT NULL, kind TEXT NOT NULL, date TEXT NOT NULL, licence TEXT, hash TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS about(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
_MATCHES = """
SELECT t.name, t.category, s.lang, s.kind, s.confidence, s.reviewed, COALESCE(t.count, -1), s.blocked OR t.blocked
FROM surface s JOIN tag t ON t.id = s.tag_id WHERE s.text = ? AND s.reviewed >= 0"""
_ANCESTORS = """
WITH RECURSIVE up(id) AS (
    SELECT i.parent FROM implies i JOIN tag t ON t.id = i.child WHERE t.name = ?
    UNION SELECT i.parent FROM implies i JOIN up ON i.child = up.id)
SELECT t.name FROM up JOIN tag t ON t.id = up.id WHERE t.name <> ?"""
_WORDS = """
SELECT s.written, s.lang FROM surface s JOIN tag t ON t.id = s.tag_id
WHERE t.name = ? AND s.confidence >= ? AND NOT s.blocked AND NOT t.blocked
    AND (s.reviewed > 0 OR s.reviewed = 0 AND NOT s.ambiguous) AND s.kind IN ({})
ORDER BY s.reviewed DESC, s.confidence DESC, s.written"""


def forbidden_words(connection: sqlite3.Connection) -> int:
    """How many words a database keeps for the blocklist alone: every name, alias and translation that is forbidden, each once."""
    return int(connection.execute("SELECT COUNT(DISTINCT text) FROM surface WHERE blocked").fetchone()[0])


@dataclass(frozen=True)
class Match:
    """A tag that a word may mean, and how sure that is.

    Attributes:
        name: the canonical name.
        kind: canonical, alias, translation, romanised or nickname: what the word is to the tag.
        reviewed: a person said so.
    """

    name: str
    category: str
    language: str
    kind: str
    confidence: float
    count: int | None = None
    reviewed: bool = False


class TagDatabase:
    """A database that is read; every thread and process has a connection of its own, so it may be shared and copied freely.

    Args:
        path: a file that `animeflow tags build` made.
        blocklist: more words that are never found, besides those that were marked when the file was made.
    """

    def __init__(self, path: str | Path, *, blocklist: Blocklist | None = None) -> None:
        self.path, self.blocklist = Path(path), blocklist or Blocklist.default()
        self._own = threading.local()
        self.identity = self._identity()

    @classmethod
    def open(cls, path: str | Path, *, blocklist: Blocklist | None = None) -> TagDatabase:
        """Raises DataError where there is no database, or one of another version."""
        return cls(path, blocklist=blocklist)

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(TagDatabase, blocklist=self.blocklist), (self.path,)

    def resolve(self, surface: str, language: str | None = None) -> list[Match]:
        """What a word means, the likeliest first; one match per tag.

        With a `language` only its own words count where there are any, else those of every language. A word of the blocklist
        means nothing: `is_blocked` tells it from one that is not known.
        """
        rows = [row for row in self._ask(_MATCHES, normal(surface)) if not row[7]]
        if language is not None:
            rows = [row for row in rows if speaks(row[2], language)] or rows
        rows.sort(key=lambda row: (row[3] != "canonical", not row[5], -row[4], -row[6], row[0], row[2]))
        best: dict[str, Match] = {}
        for name, category, lang, kind, confidence, reviewed, count, _ in rows:
            if name not in best and not self.blocklist.blocked([name, surface]):
                best[name] = Match(
                    name, category, lang, kind, confidence, count if count >= 0 else None, bool(reviewed)
                )
        return list(best.values())

    def languages(self, surface: str) -> frozenset[str]:
        """Languages in which a word is known, with whatever meaning."""
        return frozenset(row[2] for row in self._ask(_MATCHES, normal(surface)) if not row[7])

    def is_blocked(self, surface: str) -> bool:
        """Whether a word, or a tag that it means, is forbidden."""
        if self.blocklist.blocked([surface]):
            return True
        return any(row[7] or self.blocklist.blocked([row[0]]) for row in self._ask(_MATCHES, normal(surface)))

    def forbidden_words(self) -> int:
        """How many of its words are forbidden: the number that `tags build` tells."""
        return forbidden_words(self._connection())

    def translations(self, name: str, language: str, *, min_confidence: float = 0.5) -> list[str]:
        """Words for a tag in a language, the best first; none that may mean another tag and that nobody reviewed."""
        rows = self._ask(_WORDS.format("'translation', 'romanised'"), to_name(name), min_confidence)
        return list(dict.fromkeys(written for written, lang in rows if speaks(lang, language)))

    def aliases(self, name: str, *, min_confidence: float = 0.5) -> list[str]:
        """Other English names of a tag, under the same rule; nicknames are none."""
        rows = self._ask(_WORDS.format("'alias', 'romanised'"), to_name(name), min_confidence)
        return list(dict.fromkeys(written for written, lang in rows if base(lang) in ("en", "und")))

    def implied(self, name: str) -> frozenset[str]:
        """Every tag that a tag implies, at any distance."""
        key = to_name(name)
        return frozenset(row[0] for row in self._ask(_ANCESTORS, key, key))

    def count(self, name: str) -> int | None:
        """How many pictures the tag had where the list was made; None for what is not known."""
        return self._fact("count", name)

    def category(self, name: str) -> str | None:
        """One of `tags.CATEGORIES`; None for a name that is no tag here."""
        return self._fact("category", name)

    def category_of_word(self, word: str) -> str | None:
        """The category of a tag by its own name, else that on which all tags agree which the word means; nicknames tell nothing."""
        if (known := self.category(word)) is not None:
            return known
        meant = {match.category for match in self.resolve(word) if match.kind != "nickname"}
        return meant.pop() if len(meant) == 1 else None

    def is_deprecated(self, name: str) -> bool:
        return bool(self._fact("deprecated", name))

    def surfaces(self) -> Iterator[tuple[str, str]]:
        """(word, tag) of every word that is not the tag's own name: what a blocklist follows. Forbidden ones are among them."""
        query = "SELECT s.text, t.name FROM surface s JOIN tag t ON t.id = s.tag_id WHERE s.kind <> 'canonical' AND s.reviewed >= 0"
        yield from self._connection().execute(query)

    def names(self) -> Iterator[tuple[str, str, int | None]]:
        """(name, category, count) of every tag that is not forbidden, the most frequent first."""
        yield from self._connection().execute(
            "SELECT name, category, count FROM tag WHERE NOT blocked ORDER BY count DESC, name"
        )

    def meanings(self, surface: str) -> list[tuple[int, list[str]]]:
        """(class, tags) for every class of ambiguity that a word is in and that nobody reviewed."""
        rows = self._ask(
            "SELECT class, tags FROM ambiguous WHERE text = ? AND NOT reviewed ORDER BY class", normal(surface)
        )
        return [(number, json.loads(tags)) for number, tags in rows]

    def ambiguities(self) -> Iterator[tuple[str, int, list[str], bool]]:
        """(word, class, tags, whether a person reviewed it) of all words that mean several."""
        query = "SELECT text, class, tags, reviewed FROM ambiguous ORDER BY class, text"
        for text, number, tags, reviewed in self._connection().execute(query):
            yield text, number, json.loads(tags), bool(reviewed)

    def proposals(self) -> list[Proposal]:
        """Words that mean several tags, of which one is proposed to a person: see `settle`."""
        return list(proposals(self._connection()))

    def words(self, name: str) -> list[dict[str, Any]]:
        """All a tag is called: word, language, kind, confidence, reviewed, ambiguous, source."""
        query = """SELECT s.written, s.lang, s.kind, s.confidence, s.reviewed, s.ambiguous, m.source
            FROM surface s JOIN tag t ON t.id = s.tag_id LEFT JOIN meta m ON m.id = s.source
            WHERE t.name = ? AND s.reviewed >= 0 AND NOT s.blocked AND NOT t.blocked
            ORDER BY s.kind <> 'canonical', s.lang, s.confidence DESC, s.written"""
        keys = ("word", "language", "kind", "confidence", "reviewed", "ambiguous", "source")
        return [dict(zip(keys, row, strict=True)) for row in self._ask(query, to_name(name))]

    def sources(self) -> list[dict[str, Any]]:
        """The files that the database was made of: source, kind, date, licence, hash."""
        rows = self._ask("SELECT source, kind, date, licence, hash FROM meta ORDER BY id")
        return [dict(zip(("source", "kind", "date", "licence", "hash"), row, strict=True)) for row in rows]

    def _fact(self, column: str, name: str) -> Any:
        rows = self._ask(f"SELECT {column} FROM tag WHERE name = ? AND NOT blocked", to_name(name))
        return rows[0][0] if rows else None

    def _identity(self) -> str:
        try:
            found = dict(self._ask("SELECT key, value FROM about"))
        except sqlite3.Error:
            found = {}
        if found.get("version") != str(VERSION):
            raise DataError(
                "this is no database of tags"
                if not found
                else f"this database is of version {found.get('version')}, not {VERSION}",
                where=str(self.path),
                do="make it with: animeflow tags build FILES... --out FILE",
            )
        return found["identity"]

    def _ask(self, query: str, *values: Any) -> Sequence[Any]:
        return self._connection().execute(query, values).fetchall()

    def _connection(self) -> sqlite3.Connection:
        if getattr(self._own, "pid", None) != os.getpid():
            if not self.path.is_file():
                raise DataError(
                    f"there is no database of tags {self.path}",
                    where="text.database",
                    do="make it with: animeflow tags build FILES... --out FILE",
                )
            address = f"file:{quote(str(self.path.absolute()))}?mode=ro"
            self._own.connection = sqlite3.connect(address, uri=True, check_same_thread=False)
            self._own.pid = os.getpid()
        connection: sqlite3.Connection = self._own.connection
        return connection

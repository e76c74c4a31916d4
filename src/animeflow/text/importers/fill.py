"""Rows into tables: which tag a row is about, what it adds, whom it contradicts. Knows SQL and rows; knows no file."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable

from ..script import normal, written
from .record import LISTED_ALIAS, Implies, Surface, Tag

NO_TAG = "of a tag that is in no list"
_BETTER = "(excluded.confidence, surface.written, surface.kind) > (surface.confidence, excluded.written, excluded.kind)"
# The surer source counts; of equally sure ones the first in the alphabet, so that the order of files is nothing.
_UPSERT = f"""
INSERT INTO surface(tag_id, lang, text, written, kind, source, confidence, reviewed) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT(text, tag_id, lang) DO UPDATE SET
    written = CASE WHEN {_BETTER} THEN excluded.written ELSE written END,
    kind = CASE WHEN {_BETTER} THEN excluded.kind ELSE kind END,
    source = CASE WHEN {_BETTER} THEN excluded.source ELSE source END,
    confidence = MAX(confidence, excluded.confidence),
    reviewed = CASE WHEN excluded.reviewed <> 0 THEN excluded.reviewed ELSE reviewed END
WHERE kind <> 'canonical' AND ({_BETTER} OR excluded.reviewed NOT IN (0, reviewed))"""


class Filler:
    """Writes rows of files into a database that is open; `known` are the tags, `conflicts` is (kind, what) of contradictions."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._sql = connection
        rows = connection.execute("SELECT id, name, category, count, deprecated FROM tag")
        self.known: dict[str, tuple[int, str, int | None, int]] = {row[1]: (row[0], *row[2:]) for row in rows}
        self._by_form = {normal(name): name for name in self.known}
        self.conflicts: list[tuple[str, str]] = []
        self._aliases: dict[str, set[str]] = {}
        self._parents: dict[int, set[int]] = {}
        for text, name in connection.execute(
            """SELECT s.text, t.name FROM surface s JOIN tag t ON t.id = s.tag_id
               WHERE s.kind = 'alias' AND s.confidence >= ? AND s.reviewed >= 0""", (LISTED_ALIAS,)
        ):  # fmt: skip
            self._aliases.setdefault(text, set()).add(name)
        for child, parent in connection.execute("SELECT child, parent FROM implies"):
            self._parents.setdefault(child, set()).add(parent)

    def tags(self, rows: Iterable[Tag]) -> int:
        """How many rows there were. Of two lists the one with the larger count is the newer one, and is believed."""
        number = 0
        for row in rows:
            number += 1
            known = self.known.get(row.name)
            if known is None:
                self._new(row)
                continue
            tag_id, category, count, deprecated = known
            newer = row.count is not None and row.count > (-1 if count is None else count)
            if row.category is not None and row.category != category:
                self.conflicts.append(("two categories", f"{row.name}: {category} and {row.category}"))
            facts = (
                row.category if newer and row.category else category,
                row.count if newer else count,
                deprecated if row.deprecated is None or (not newer and row.count != count) else int(row.deprecated),
            )
            if facts != (category, count, deprecated):
                self._sql.execute(
                    "UPDATE tag SET category = ?, count = ?, deprecated = ? WHERE id = ?", (*facts, tag_id)
                )
                self.known[row.name] = (tag_id, *facts)
        return number

    def learn_aliases(self, rows: Iterable[Surface]) -> None:
        """Remember whom an alias stands for, so that rows about it find its tag."""
        for row in rows:
            if row.kind == "alias" and row.confidence >= LISTED_ALIAS and row.reviewed is not False:
                self._aliases.setdefault(normal(row.text), set()).add(row.tag)

    def surfaces(self, rows: Iterable[Surface], source: int, said: Counter[str], skipped: Counter[str]) -> None:
        for row in rows:
            tag, text = self._tag(row.tag, skipped), normal(row.text)
            if tag is None:
                continue
            if text == normal(tag) or not text:
                skipped["the tag's own name again"] += 1
                continue
            if row.kind == "alias" and row.confidence >= LISTED_ALIAS and text in self._by_form:
                self.conflicts.append(("an alias that is a tag itself", f"{self._by_form[text]}: alias of {tag}"))
            reviewed = {None: 0, True: 1, False: -1}[row.reviewed]
            values = (
                self.known[tag][0],
                row.language,
                text,
                written(row.text),
                row.kind,
                source,
                row.confidence,
                reviewed,
            )
            self._sql.execute(_UPSERT, values)
            said["aliases" if row.kind in ("alias", "nickname") else "translations"] += 1

    def implications(self, rows: Iterable[Implies], said: Counter[str], skipped: Counter[str]) -> None:
        for row in rows:
            child, parent = self._tag(row.child, skipped), self._tag(row.parent, skipped)
            if child is None or parent is None:
                continue
            below, above = self.known[child][0], self.known[parent][0]
            if above in self._parents.get(below, ()):
                said["implications"] += 1
            elif below == above or self._reaches(above, below):
                self.conflicts.append(("an implication in a circle", f"{child} implies {parent}"))
            else:
                self._parents.setdefault(below, set()).add(above)
                self._sql.execute("INSERT INTO implies VALUES (?, ?)", (below, above))
                said["implications"] += 1

    def _new(self, row: Tag) -> None:
        facts = (row.category or "general", row.count, int(bool(row.deprecated)))
        cursor = self._sql.execute(
            "INSERT INTO tag(name, category, count, deprecated) VALUES (?, ?, ?, ?)", (row.name, *facts)
        )
        tag_id = int(cursor.lastrowid or 0)
        self.known[row.name] = (tag_id, *facts)
        form = normal(row.name)
        self._by_form.setdefault(form, row.name)
        values = (tag_id, "en", form, written(row.name), "canonical", 0, 1.0, 0)
        self._sql.execute(_UPSERT, values)

    def _tag(self, name: str, skipped: Counter[str]) -> str | None:
        """The canonical name, through aliases of aliases; None, and counted, where there is none."""
        seen = {name}
        while name not in self.known:
            if (form := normal(name)) in self._by_form:
                return self._by_form[form]
            targets = self._aliases.get(form, set())
            if len(targets) != 1:
                skipped["of an alias of several tags" if targets else NO_TAG] += 1
                return None
            (name,) = targets
            if name in seen:
                skipped["of aliases in a circle"] += 1
                return None
            seen.add(name)
        return name

    def _reaches(self, start: int, goal: int) -> bool:
        seen, pending = {start}, [start]
        while pending:
            node = pending.pop()
            if node == goal:
                return True
            fresh = self._parents.get(node, set()) - seen
            seen |= fresh
            pending += fresh
        return False

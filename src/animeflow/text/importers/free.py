"""Tables of one's own: CSV with a header, or one JSON object a line. A column that is called like a language has words of it.

| column | meaning |
|---|---|
| tag, name | the canonical name (needed) |
| category, count, deprecated | of the tag; a row with a category makes the tag |
| aliases, nicknames | words parted by `\\|`, or a list |
| implies, parent | canonical names, the same way |
| surface, text, translation, other_name | a word for the tag, of the row's `language` (or `lang`), `kind` and `confidence` |
| reviewed | yes: a person says that this word means this tag, even where it means others too; no: it never does |
| ja, zh-Hans, es, ... | words of this language, parted by `\\|` |
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..script import is_language, language_named
from ..tags import CATEGORIES, CATEGORY_WORDS
from .record import (
    BY_HAND,
    BY_MACHINE,
    KINDS,
    Implies,
    Row,
    Skipped,
    Surface,
    Tag,
    alias,
    code_of,
    count_of,
    name_of,
    other_name,
    translations,
)

NAMES = ("tag", "name")
WORDS = ("surface", "text", "translation", "other_name")
KNOWN = frozenset(
    (
        *(*NAMES, *WORDS, "language", "lang", "script", "kind", "confidence", "reviewed"),
        *("category", "count", "deprecated", "aliases", "nicknames", "implies", "parent"),
    )
)
_TRUE, _FALSE = ("1", "yes", "true", "y"), ("0", "no", "false", "n")


def is_header(row: Iterable[str]) -> bool:
    """Whether the first row of a table names columns: one is a tag's, another one is known."""
    names = [cell.strip().lower() for cell in row]
    return any(name in names for name in NAMES) and (len(KNOWN & {*names}) > 1 or any(map(is_language, names)))


def rows(found: Iterable[Any]) -> Iterator[Row]:
    for each in found:
        if not isinstance(each, Mapping):
            yield Skipped("not an object")
            continue
        row = {str(key).strip(): value for key, value in each.items() if key is not None and value not in (None, "")}
        name = name_of(row.get("tag") or row.get("name"))
        if not name:
            yield Skipped("no name in the row")
        elif not row.keys() - {*NAMES, "language", "lang", "script", "kind", "confidence"}:
            yield Skipped("nothing about the tag in the row")
        else:
            yield from _row(name, row)


def _row(name: str, row: Mapping[str, Any]) -> Iterator[Row]:
    if "category" in row or "count" in row or "deprecated" in row:
        yield _tag(name, row)
    for other in _several(row.get("aliases")):
        yield from alias(name, other, BY_HAND)
    for other in _several(row.get("nicknames")):
        yield Surface(name, other, "en" if other.isascii() else "und", "nickname", BY_HAND)
    for parent in (*_several(row.get("implies")), *_several(row.get("parent"))):
        yield Implies(name, name_of(parent))
    by_language = row.get("translations")
    columns = {**row, **(by_language if isinstance(by_language, Mapping) else {})}
    for column, value in columns.items():
        if column not in KNOWN and is_language(column):
            for word in _several(value):
                yield from translations(name, word, column, BY_HAND)
        elif column not in KNOWN and (code := language_named(column)):
            yield Skipped(f"column '{column}' is not the code of a language (did you mean '{code}'?)")
    for column in WORDS:
        if column in row:
            yield from _word(name, str(row[column]), column, row)


def _word(name: str, text: str, column: str, row: Mapping[str, Any]) -> Iterator[Row]:
    language = str(row.get("language") or row.get("lang") or "")
    if column == "other_name" and not language:
        yield from other_name(name, text)
        return
    plain = column == "translation" and not row.keys() & {"kind", "confidence", "reviewed"}
    try:
        trust = float(row.get("confidence", BY_MACHINE if plain else BY_HAND))
    except (TypeError, ValueError):
        yield Skipped("a confidence that is no number")
        return
    kind, code = str(row.get("kind") or ""), code_of(language or "en")
    if plain and language:
        yield from translations(name, text, language, trust)
    elif isinstance(code, Skipped):
        yield code
    elif (kind and kind not in KINDS) or kind == "canonical":
        yield Skipped(f"kind '{kind}' is not one of {', '.join(KINDS[1:])}")
    elif not 0 < trust <= 1:
        yield Skipped("a confidence outside 0 to 1")
    else:
        usual = "alias" if code == "en" else "translation"
        yield Surface(name, text, code, kind or usual, trust, _bool(row.get("reviewed")))


def _tag(name: str, row: Mapping[str, Any]) -> Row:
    word = str(row.get("category") or "").strip().lower()
    category = CATEGORY_WORDS.get(word) if word else None
    if word and category not in CATEGORIES:
        return Skipped(f"category '{word}' is not one of {', '.join(CATEGORIES)}")
    count = str(row.get("count", "")).strip()
    if count and count_of(count) is None:
        return Skipped("a count that is no number")
    return Tag(name, category, count_of(count), _bool(row.get("deprecated")))


def _several(value: Any) -> list[str]:
    """Words of a list or of a cell."""
    parts = value if isinstance(value, list) else str(value or "").split("|")
    return [part.strip() for part in parts if isinstance(part, str) and part.strip()]


def _bool(value: Any) -> bool | None:
    word = str(value).strip().lower()
    return True if word in _TRUE else False if word in _FALSE else None

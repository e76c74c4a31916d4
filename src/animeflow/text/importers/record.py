"""What a file says of tags, row by row: a tag, a word for it, an implication, or why a row says nothing. Knows no file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..script import base, language_code, language_hint, languages_of
from ..tags import to_name

KINDS = ("canonical", "alias", "translation", "romanised", "nickname")

ACTIVE_ALIAS = 0.95  # people of the booru voted for it
LISTED_ALIAS = 0.9
BY_HAND = 0.9
BY_A_WIKI = 0.7  # people wrote it, but wikis also list words that only go with a tag
OPEN_LANGUAGE = 0.5  # Han letters alone: Japanese or Chinese
BY_MACHINE = 0.6
MAX_DIGITS = 15
LATIN_OF_A_WIKI = 0.4  # nobody says of which language


@dataclass(frozen=True)
class Tag:
    """A tag as a list has it; None for what the list does not know."""

    name: str
    category: str | None = None
    count: int | None = None
    deprecated: bool | None = None


@dataclass(frozen=True)
class Surface:
    """Another word for a tag. `reviewed`: a person says that it is right (True) or wrong (False)."""

    tag: str
    text: str
    language: str
    kind: str
    confidence: float
    reviewed: bool | None = None


@dataclass(frozen=True)
class Implies:
    """Who has the child has the parent."""

    child: str
    parent: str


@dataclass(frozen=True)
class Skipped:
    """A row that says nothing here, and why."""

    reason: str


Row = Tag | Surface | Implies | Skipped


def alias(tag: str, text: str, confidence: float) -> Iterator[Row]:
    """An alias; its script tells where it is a word of another language."""
    if not text.strip():
        return
    languages = languages_of(text)
    if languages:
        for language in languages:
            yield Surface(tag, text, language, "translation", confidence if len(languages) == 1 else OPEN_LANGUAGE)
    else:  # `/lh` is a key to press, not a word
        yield Surface(tag, text, "en", "nickname" if text.startswith("/") else "alias", confidence)


def other_name(tag: str, text: str) -> Iterator[Row]:
    """A name that a wiki lists beside a tag."""
    if "," in text or not text.strip():
        yield Skipped("a comma in a name")
        return
    languages = languages_of(text)
    for language in languages:
        yield Surface(tag, text, language, "translation", BY_A_WIKI if len(languages) == 1 else OPEN_LANGUAGE)
    if not languages:
        yield Surface(tag, text, "en" if text.isascii() else "und", "alias", LATIN_OF_A_WIKI)


def translations(tag: str, cell: str, language: str, confidence: float) -> Iterator[Row]:
    """The words of a cell: several are parted by `|`, or by `/` unless the tag itself has one."""
    code = code_of(language)
    if isinstance(code, Skipped):
        yield code
        return
    words = [cell]
    for sign in ("|", "/", "；"):
        if sign not in tag:
            words = [part for word in words for part in word.split(sign)]
    words = [word.strip() for word in words if word.strip()]
    if not words:
        yield Skipped("no translation in the row")
    for word in words:
        if any(sign in word for sign in ",、，"):
            yield Skipped("a comma in a translation: a description, not a name")
        elif base(code) == "en":
            yield Surface(tag, word, "en", "alias", confidence)
        else:
            yield Surface(tag, word, code, "translation", confidence)


def code_of(language: str) -> str | Skipped:
    """A code in one form, or why a row that names it says nothing."""
    hint = language_hint(language)
    if hint is not None:
        return Skipped(f"'{language:.40}' is not the code of a language{hint}")
    return language_code(language) or language


def count_of(value: object) -> int | None:
    """A number of pictures, from a whole number or its digits; None for what is none and for more than there can be."""
    if isinstance(value, str):
        value = int(value) if value.isdecimal() and len(value) <= MAX_DIGITS else None
    if not isinstance(value, int):
        return None
    return max(int(value), 0) if value < 10**MAX_DIGITS else None


def name_of(text: object) -> str:
    """A tag's stored name, or `""`."""
    return to_name(text) if isinstance(text, str) else ""

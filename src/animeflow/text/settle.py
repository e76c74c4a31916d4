"""Words that mean several tags, and the one that they may stand for: tags that are one thing by two names, one of them far more
frequent. Knows a database of tags; decides nothing, for a person reads what it proposes.

Frequency alone is no reason: Spanish *cañón* is a cannon fifty times as often as a canyon, and means both. But where two tags share
a word in other languages too (dress and gown are *vestido*, *robe*, *Kleid*), translators took them for the same, and the word may
stand for the frequent one.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from .script import base

RATIO = 10.0  # how often the tag is met for once of all the others together
SHARED = 2  # other languages in which it shares a word with each of them
PLAIN, NAMES, CANONICAL = 4, 5, 3  # classes of `ambiguity` in which nothing is proposed
KINDS = ("general", "meta")
_MEANINGS = """
SELECT s.text, s.tag_id, s.lang, s.kind, s.written, s.confidence FROM surface s JOIN tag t ON t.id = s.tag_id
WHERE s.reviewed >= 0 AND NOT s.blocked AND NOT t.blocked AND s.text IN
    (SELECT text FROM ambiguous GROUP BY text HAVING MAX(reviewed) = 0) AND s.text NOT IN
    (SELECT text FROM ambiguous WHERE class IN ({}, {}, {})) ORDER BY s.text"""
_WORDS = """
SELECT s.tag_id, s.lang, s.text FROM surface s JOIN tag t ON t.id = s.tag_id
WHERE s.kind IN ('translation', 'romanised') AND s.reviewed >= 0 AND NOT s.blocked AND NOT t.blocked"""


@dataclass(frozen=True)
class Proposal:
    """A word of a language, the tag that it may stand for, and those that it also means, by how often each is met."""

    tag: str
    language: str
    word: str
    count: int
    others: tuple[tuple[str, int], ...]


def proposals(connection: sqlite3.Connection, *, ratio: float = RATIO, shared: int = SHARED) -> Iterator[Proposal]:
    """Every word that can be settled so, by language and word. A forbidden word is never among them."""
    tags = {row[0]: row[1:] for row in connection.execute("SELECT id, name, category, COALESCE(count, 0) FROM tag")}
    words: dict[int, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for tag, language, text in connection.execute(_WORDS):
        words[tag][base(language)].add(text)
    meanings: dict[str, list[tuple[int, str, str, str, float]]] = defaultdict(list)
    for text, *meaning in connection.execute(_MEANINGS.format(CANONICAL, PLAIN, NAMES)):
        meanings[text].append(tuple(meaning))
    for _, found in sorted(meanings.items()):
        known = {tag for tag, *_ in found}
        if len(known) < 2 or any(tags[tag][1] not in KINDS for tag in known):
            continue
        for language in sorted({lang for _, lang, kind, *_ in found if kind == "translation"}):
            own = [row for row in found if row[1] == language]
            best = max(own, key=lambda row: (tags[row[0]][2], row[4], row[3]))
            others = known - {best[0]}
            if best[4] < max(row[4] for row in own) or tags[best[0]][2] < ratio * sum(tags[tag][2] for tag in others):
                continue
            if all(_in_common(words[best[0]], words[tag], besides=base(language)) >= shared for tag in others):
                counted = sorted(((tags[tag][0], tags[tag][2]) for tag in others), key=lambda each: (-each[1], each[0]))
                yield Proposal(tags[best[0]][0], language, best[3], tags[best[0]][2], tuple(counted))


def _in_common(one: dict[str, set[str]], other: dict[str, set[str]], *, besides: str) -> int:
    """In how many languages two tags share a word."""
    return sum(bool(one[language] & other[language]) for language in one.keys() & other.keys() - {besides})

"""Words that mean several tags, in five classes. Knows words and tags; knows no database.

1  one word, two tags, one language
2  one word means different tags in different languages (German *Gift* is poison)
3  a word for one tag is the canonical name of another
4  a word that is frequent in plain text, so that it will be typed without the tag in mind (a character called Fern)
5  a nickname that several characters share
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from .script import base

CLASSES = {
    1: "one word, several tags in one language",
    2: "another tag in another language",
    3: "the canonical name of another tag",
    4: "a frequent plain word",
    5: "a name that characters share",
}
FREQUENT = 5  # general tags that have a word in their names: from there on it is plain
NAMED = ("character", "copyright", "artist")
SHORT = ("alias", "nickname", "romanised")


@lru_cache(maxsize=1)
def plain_words() -> dict[str, frozenset[str]]:
    """Language -> its most frequent words."""
    found: dict[str, set[str]] = defaultdict(set)
    text = resources.files(__package__).joinpath("plain_words.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        language, sign, words = line.partition(": ")
        if sign and not line.startswith("#"):
            found[language].update(words.split())
    return {language: frozenset(words) for language, words in found.items()}


@dataclass(frozen=True)
class Word:
    """One meaning of a word: the tag, and what the word is to it."""

    text: str  # in normal form
    tag: str
    category: str
    language: str
    kind: str
    reviewed: bool = False


@dataclass(frozen=True)
class Ambiguous:
    """A word, the class that it is in, and the tags that it may mean. `reviewed`: a person has said so of one of them."""

    text: str
    number: int
    tags: tuple[str, ...]
    reviewed: bool = False


class Finder:
    """Finds the classes of words, given all tags that there are.

    Args:
        tags: (canonical name in normal form, category) of every tag.
    """

    def __init__(self, tags: Iterable[tuple[str, str]]) -> None:
        seen: Counter[str] = Counter()
        self._bearers: dict[str, list[str]] = defaultdict(list)  # a word -> the characters who bear it
        for name, category in tags:
            words = set(_base_name(name))
            if category == "general":
                seen.update(words)
            elif category == "character" and len(words) > 1:
                for word in words:
                    self._bearers[word].append(name)
        self._plain = {word for word, number in seen.items() if number >= FREQUENT and len(word) > 1}

    def classes(self, meanings: list[Word]) -> Iterator[Ambiguous]:
        """The classes of one word, given all its meanings. A word that is only a tag's own name is in none."""
        others = [word for word in meanings if word.kind != "canonical"]
        if not others:
            return
        text, reviewed = meanings[0].text, any(word.reviewed for word in others)
        found: dict[int, set[str]] = defaultdict(set)
        by_language: dict[str, set[str]] = defaultdict(set)
        for word in others:
            by_language[base(word.language)].add(word.tag)
        characters = {word.tag for word in meanings if word.category == "character"}
        for tags in by_language.values():
            if len(tags) > 1 and not tags <= characters:
                found[1] |= tags
        if len({word.tag for word in meanings}) > 1:
            found[2] |= _across(meanings)
            own = {word.tag for word in meanings if word.kind == "canonical"}
            if own and {word.tag for word in others} - own:
                found[3] |= own | {word.tag for word in others}
        found[4] |= {word.tag for word in others if self._is_plain(word)}
        sharing = characters | self._bearers_besides(characters, others)
        if len(sharing) > 1:
            found[5] |= sharing
        yield from (Ambiguous(text, n, tuple(sorted(tags)), reviewed) for n, tags in sorted(found.items()) if tags)

    def _is_plain(self, word: Word) -> bool:
        own = word.tag.replace("_", " ").split()
        if word.category not in NAMED and any(_related(word.text, each) for each in own):
            return False  # `curtain` for curtains is what the plain word means; `ivy` for Ivy Thornwood is not
        if word.text in plain_words().get(base(word.language), ()):
            return True
        return word.kind in SHORT and word.text in self._plain

    def _bearers_besides(self, characters: set[str], words: list[Word]) -> set[str]:
        """Characters who bear the one word that is a short name of these; other forms of these are not others."""
        if not any(word.category == "character" and word.kind in SHORT for word in words) or " " in words[0].text:
            return set()
        own = [set(_base_name(name.replace("_", " "))) for name in characters]
        bearers = self._bearers.get(words[0].text, ())
        others = (name for name in bearers if not any(each <= set(_base_name(name)) for each in own))
        return {name.replace(" ", "_") for name in others}


def _across(meanings: list[Word]) -> set[str]:
    """Tags of a word that no language shares: those of a language that has a meaning which another one lacks."""
    by_language: dict[str, set[str]] = defaultdict(set)
    for word in meanings:
        if word.language != "und":
            by_language[base(word.language)].add(word.tag)
    sets = {frozenset(tags) for tags in by_language.values()}
    return set().union(*sets) if len(sets) > 1 else set()


def _related(one: str, other: str) -> bool:
    """Whether one is a form of the other, as curtain and curtains are."""
    return one == other or (min(len(one), len(other)) >= 4 and (one.startswith(other) or other.startswith(one)))


def _base_name(name: str) -> list[str]:
    """Words of a name without what is in parentheses behind it: the series or the form."""
    return name.split(" (")[0].split()

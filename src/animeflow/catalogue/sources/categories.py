"""Tags whose site names no category, by the categories that somebody knows. Knows candidates; knows no database and no site.

Gelbooru's, yande.re's and pixiv's answers are lists of words: a character is found by name only where something else says that
the word is one. Names stay as they are; what nobody knows stays general.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from dataclasses import replace

from ...text.tags import CATEGORIES
from ..candidate import Candidate, Source

KEPT = 500_000  # words whose category is remembered


class Sorted:
    """A source, with the tags of its unsorted posts in their categories.

    Args:
        source: the source itself.
        category_of: the category of a word, None where it is not known.
    """

    def __init__(self, source: Source, category_of: Callable[[str], str | None]) -> None:
        self.name, self.root = source.name, source.root
        self._source, self._category_of = source, category_of
        self._known: dict[str, str] = {}

    def __iter__(self) -> Iterator[Candidate]:
        for candidate in self._source:
            facts = candidate.facts
            yield (
                replace(candidate, facts=replace(facts, tags=self._by_category(facts.tags)))
                if facts.unsorted
                else candidate
            )

    def __length_hint__(self) -> int:
        return operator.length_hint(self._source)

    def _by_category(self, tags: dict[str, list[str]]) -> dict[str, list[str]]:
        found = {category: list(tags.get(category, ())) for category in CATEGORIES} | {"general": []}
        for name in tags.get("general", ()):
            found[self._category(name)].append(name)
        return {category: list(dict.fromkeys(names)) for category, names in found.items()}

    def _category(self, name: str) -> str:
        if (known := self._known.get(name)) is None:
            if len(self._known) >= KEPT:
                self._known.clear()
            known = self._known[name] = self._category_of(name) or "general"
        return known

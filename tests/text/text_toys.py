"""A lexicon in memory, for tests of captions."""

from __future__ import annotations

from animeflow.text.lexicon import Wordbook


class Words:
    """`Lexicon` out of dictionaries: language -> name -> words, name -> aliases, child -> parents (direct ones)."""

    def __init__(self, translations=None, aliases=None, parents=None, counts=None) -> None:
        self.of = {"translations": translations or {}, "aliases": aliases or {}, "parents": parents or {}}
        self.counts = counts or {}
        self.asked = 0

    def translations(self, name: str, language: str) -> list[str]:
        self.asked += 1
        return self.of["translations"].get(language, {}).get(name, [])

    def aliases(self, name: str) -> list[str]:
        return self.of["aliases"].get(name, [])

    def implied(self, name: str) -> frozenset[str]:
        direct = self.of["parents"].get(name, [])
        return frozenset(direct).union(*(self.implied(parent) for parent in direct))

    def count(self, name: str) -> int | None:
        return self.counts.get(name)


def wordbook(**kinds) -> Wordbook:
    return Wordbook(Words(**kinds), identity="toy")

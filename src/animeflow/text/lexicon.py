"""What is known of tags beyond their names: other words for them, and what they imply. Knows a protocol; knows no file."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from .blocklist import Blocklist


class Lexicon(Protocol):
    """Answers about tags by their canonical names, as `database.TagDatabase` gives them. A name that it does not know has none."""

    def translations(self, name: str, language: str) -> Sequence[str]:
        """Words for a tag in another language, the best first; only those that mean no other tag."""

    def aliases(self, name: str) -> Sequence[str]:
        """Other names of a tag."""

    def implied(self, name: str) -> Iterable[str]:
        """Every tag that a tag implies, at any distance."""


class Wordbook:
    """A lexicon as captions use it: asked once per tag, by one thread at a time, and without words that must not be written.

    Args:
        lexicon: what is asked.
        identity: a hash of all that it knows; it decides captions, so it is part of their address.
        blocklist: words that are never given out; default: the project's.
    """

    def __init__(self, lexicon: Lexicon, *, identity: str, blocklist: Blocklist | None = None) -> None:
        self.identity = identity
        self._lexicon, self._blocklist = lexicon, blocklist or Blocklist.default()
        self._known: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._alone = threading.Lock()

    def translations(self, name: str, language: str) -> tuple[str, ...]:
        """Words for a tag in another language; none where there is no translation."""
        return self._ask(("translation", name, language), lambda: self._lexicon.translations(name, language))

    def aliases(self, name: str) -> tuple[str, ...]:
        """Other names of a tag, without its own."""
        return self._ask(("alias", name), lambda: [alias for alias in self._lexicon.aliases(name) if alias != name])

    def implied(self, name: str) -> tuple[str, ...]:
        """All tags that a tag implies, in alphabetical order, so that nothing depends on a set's."""
        return self._ask(("implied", name), lambda: sorted(set(self._lexicon.implied(name)) - {name}))

    def _ask(self, key: tuple[str, ...], ask: Callable[[], Iterable[str]]) -> tuple[str, ...]:
        if (known := self._known.get(key)) is None:
            with self._alone:
                # A comma would make two tags of one word.
                words = [word.strip() for word in ask() if word.strip() and "," not in word]
            blocked = self._blocklist.blocked(words)
            known = self._known[key] = tuple(dict.fromkeys(word for word in words if word not in blocked))
        return known

"""The hard blocklist: tags for sexualised minors. On by default; what it finds is counted, never shown. Knows strings only.

A tag is forbidden by its whole name (`blocklist.txt`, and what a database adds), by a word in it that means nothing else
(`forbidden_words.py`), or, as sites say it that have no such word, by a child beside a rating or a tag of sexual content.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from importlib import resources

from ..core.errors import ConfigError
from .forbidden_words import AGES, SEXUAL, SEXUAL_RATINGS, age_and_sex, has_forbidden_word, visible, without_names

_LOOSE = re.compile(r"[\s_\-‐-―・.'’*~]+")
_HIRAGANA = {code: code + 0x60 for code in range(0x3041, 0x3097)}  # to katakana
# Runs of one script: a word of a sentence in Latin, katakana, hiragana, Han, Hangul or Cyrillic letters.
_WORDS = re.compile(r"[a-z]+(?:-[a-z]+)*|[ァ-ヺー]+|[ぁ-ゖ]+|[一-鿿]+|[가-힣]+|[а-яё]+")


def loose(tag: str) -> str:
    """The form that is compared: NFKC, case folded, hiragana as katakana, without spaces, underscores and hyphens."""
    return _LOOSE.sub("", visible(unicodedata.normalize("NFKC", tag).casefold())).translate(_HIRAGANA)


class Blocklist:
    """A set of forbidden tags, compared in loose form as whole tags (`lollipop` and `aizawa_shota` stay).

    Args:
        names: the forbidden tags.
        words: whether the project's forbidden words count as well, inside other tags and in sentences.
    """

    def __init__(self, names: Iterable[str], *, words: bool = False) -> None:
        self._forms, self._by_word = frozenset(filter(None, map(loose, names))), words

    def __len__(self) -> int:
        return len(self._forms)

    @classmethod
    def default(cls) -> Blocklist:
        """The list in the package."""
        return _default()

    def extended(self, surfaces: Iterable[tuple[str, str]]) -> Blocklist:
        """With every alias or translation of a forbidden tag added: pairs of (other name, tag), in any order, chains followed."""
        pairs = [(loose(surface), loose(name)) for surface, name in surfaces]
        forms = set(self._forms)
        while new := {surface for surface, name in pairs if name in forms} - forms:
            forms |= new
        return Blocklist(forms, words=self._by_word)

    def with_tags(self, names: Iterable[str]) -> Blocklist:
        """With further forbidden tags. Raises ConfigError for a name that nothing could match."""
        forms = set(self._forms)
        for name in names:
            if not isinstance(name, str) or not loose(name):
                raise ConfigError(
                    f"{name!r} is not a tag", where="blocklist", do="give a list of tags, numbers in quotes"
                )
            forms.add(loose(name))
        return Blocklist(forms, words=self._by_word)

    def blocked(self, tags: Iterable[str]) -> set[str]:
        """Those of `tags` that are forbidden, as they were given."""
        return {tag for tag in tags if loose(tag) in self._forms or (self._by_word and has_forbidden_word(tag))}

    def blocks_text(self, text: str) -> bool:
        """Whether a sentence has a forbidden word. Whole words of one script only, so that カロリー is not mistaken."""
        if self._by_word and (has_forbidden_word(text) or age_and_sex(text)):
            return True
        folded = visible(unicodedata.normalize("NFKC", text).casefold())
        words = _WORDS.findall(without_names(folded) if self._by_word else folded)
        return any(loose(word) in self._forms for word in words)

    def blocks_post(self, tags: Iterable[str], captions: Iterable[str] = (), *, rating: str = "unknown") -> bool:
        """Whether a picture is forbidden: by one of its tags, by a sentence, or as a child in a sexual picture."""
        tags = list(tags)
        if self.blocked(tags) or any(map(self.blocks_text, captions)):
            return True
        forms = {loose(tag) for tag in tags} if self._by_word else set()
        return bool(forms & _forms_of(AGES)) and (rating in SEXUAL_RATINGS or bool(forms & _forms_of(SEXUAL)))


@lru_cache(maxsize=2)
def _forms_of(names: tuple[str, ...]) -> frozenset[str]:
    return frozenset(map(loose, names))


@lru_cache(maxsize=1)
def _default() -> Blocklist:
    text = resources.files(__package__).joinpath("blocklist.txt").read_text(encoding="utf-8")
    return Blocklist((line for line in text.splitlines() if not line.startswith("#")), words=True)

"""The hard blocklist: tags for sexualised minors. On by default; what it finds is counted, never shown. Knows strings only."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from importlib import resources

from ..core.errors import ConfigError

_LOOSE = re.compile(r"[\s_\-‐-―・.'’*~]+")
_HIRAGANA = {code: code + 0x60 for code in range(0x3041, 0x3097)}  # to katakana
# Runs of one script: a word of a sentence in Latin, katakana, hiragana, Han or Hangul letters.
_WORDS = re.compile(r"[a-z]+(?:-[a-z]+)*|[ァ-ヺー]+|[ぁ-ゖ]+|[一-鿿]+|[가-힣]+")


def loose(tag: str) -> str:
    """The form that is compared: NFKC, case folded, hiragana as katakana, without spaces, underscores and hyphens."""
    return _LOOSE.sub("", unicodedata.normalize("NFKC", tag).casefold()).translate(_HIRAGANA)


class Blocklist:
    """A set of forbidden tags, compared in loose form, whole tags only (`lollipop` and `aizawa_shota` stay).

    Args:
        names: the forbidden tags.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._forms = frozenset(filter(None, map(loose, names)))

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
        return Blocklist(forms)

    def with_tags(self, names: Iterable[str]) -> Blocklist:
        """With further forbidden tags. Raises ConfigError for a name that nothing could match."""
        forms = set(self._forms)
        for name in names:
            if not isinstance(name, str) or not loose(name):
                raise ConfigError(
                    f"{name!r} is not a tag", where="blocklist", do="give a list of tags, numbers in quotes"
                )
            forms.add(loose(name))
        return Blocklist(forms)

    def blocked(self, tags: Iterable[str]) -> set[str]:
        """Those of `tags` that are forbidden, as they were given."""
        return {tag for tag in tags if loose(tag) in self._forms}

    def blocks_text(self, text: str) -> bool:
        """Whether a sentence has a forbidden word. Whole words of one script only, so that カロリー is not mistaken."""
        folded = unicodedata.normalize("NFKC", text).casefold()
        return any(loose(word) in self._forms for word in _WORDS.findall(folded))


@lru_cache(maxsize=1)
def _default() -> Blocklist:
    text = resources.files(__package__).joinpath("blocklist.txt").read_text(encoding="utf-8")
    return Blocklist(line for line in text.splitlines() if not line.startswith("#"))

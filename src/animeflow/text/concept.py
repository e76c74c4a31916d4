"""What a run teaches under a name: the word that calls it, the word for its kind, and the tags it takes over. Knows strings.

Pictures belong to the concept that their source names. A trigger gets its meaning from what all pictures share and no caption
says; so the tags that describe what a character always is (`*_hair`, `*_eyes`) are pruned, and the others are kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fnmatch import translate
from functools import lru_cache
from typing import Any

from ..core.errors import ConfigError, did_you_mean
from .tags import to_name

WHERE = "text.concepts"
OPTIONS = ("trigger", "class", "prune", "prior")


@dataclass(frozen=True)
class Concept:
    """One concept of a run.

    Args:
        trigger: the word that calls it, first in every caption; None writes none.
        class_word: what it is a kind of (`class` in YAML): "girl", "style". Stands where the trigger would in captions of what the
            model knew before.
        prune: patterns of tag names (`*_hair`) that are not written, since the trigger is to mean them.
        prior: its pictures show the class and not the concept: their captions have the class word and no trigger.
    """

    trigger: str | None = None
    class_word: str = ""
    prune: tuple[str, ...] = ()
    prior: bool = False

    @classmethod
    def of(cls, name: str, node: Mapping[str, Any]) -> Concept:
        """From the node of a config. Raises ConfigError for what is no option or contradicts itself."""
        where = f"{WHERE}.{name}"
        if not isinstance(node, Mapping):
            raise ConfigError(f"{node!r} is no concept", where=where, do="write it like {trigger: eileen, class: girl}")
        for key in node:
            if key not in OPTIONS:
                raise ConfigError(
                    f"unknown setting '{key}'{did_you_mean(str(key), OPTIONS)}",
                    where=where,
                    do=f"known here: {', '.join(OPTIONS)}",
                )
        words = {key: _word(node.get(key), where=f"{where}.{key}") for key in ("trigger", "class")}
        patterns = node.get("prune") or ()
        if isinstance(patterns, str) or not all(isinstance(pattern, str) for pattern in patterns):
            raise ConfigError(
                f"prune={patterns!r} is no list of patterns", where=where, do='write ["*_hair", "*_eyes"]'
            )
        prior = node.get("prior", False)
        if not isinstance(prior, bool):
            raise ConfigError(f"prior={prior!r} is not true or false", where=where)
        if prior and (words["trigger"] or patterns or not words["class"]):
            raise ConfigError(
                "a concept with prior: true has a class, no trigger and nothing to prune",
                where=where,
                why="its pictures show what the class is without the concept",
                do="give class, and leave trigger and prune out",
            )
        return cls(words["trigger"] or None, words["class"], tuple(map(to_name, patterns)), prior)

    def facts(self) -> dict[str, Any]:
        """JSON of the concept, for content addresses."""
        return {**asdict(self), "prune": list(self.prune)}

    @property
    def lead(self) -> str:
        """The word that opens its captions."""
        return self.class_word if self.prior else self.trigger or ""

    def keeps(self, category: str, name: str) -> bool:
        """Whether a tag is written beside the trigger: not if it is pruned, nor if it says the trigger again."""
        if self.prune and _pattern(self.prune).fullmatch(name):
            return False
        # `eileen_(series)` is what boorus call the one that the trigger `eileen` means.
        own = re.sub(r"_\([^()]*\)$", "", name) if category == "character" else name
        return to_name(self.lead) not in (name, own)

    def said_in(self, sentence: str) -> bool:
        """Whether a sentence already holds the opening word, as a word of its own."""
        return bool(self.lead) and _word_of(self.lead).search(sentence) is not None

    def without(self, sentence: str) -> str:
        """The sentence about the class: its word in place of the trigger."""
        if not self.trigger:
            return sentence
        replaced = _word_of(self.trigger).sub(lambda _: self.class_word, sentence)
        return replaced if self.class_word else re.sub(r"\s+([,.;:!?])", r"\1", " ".join(replaced.split())).lstrip(", ")


def concepts_of(node: Mapping[str, Any] | None) -> dict[str, Concept]:
    """All concepts of a config: name -> concept."""
    return {str(name): Concept.of(str(name), options) for name, options in (node or {}).items()}


def _word(value: Any, *, where: str) -> str:
    if not isinstance(value, str | None):
        raise ConfigError(f"{value!r} is not a word", where=where, do='put it in quotes: "2b"')
    return " ".join((value or "").split())


@lru_cache(maxsize=64)
def _word_of(words: str) -> re.Pattern[str]:
    """A trigger in running text, written with spaces or underscores, in any case."""
    parts = r"[\s_]+".join(map(re.escape, re.split(r"[\s_]+", words)))
    return re.compile(rf"(?<!\w){parts}(?!\w)", re.IGNORECASE)


@lru_cache(maxsize=64)
def _pattern(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(translate, patterns)))

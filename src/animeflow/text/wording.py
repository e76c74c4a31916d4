"""One tag to one word: its own name, an alias, or a word of another language. Knows a policy and its wordbook; knows no caption."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping

from .policy import CaptionPolicy
from .tags import to_name, to_words

Tag = tuple[str, str]
"""A section and what stands in it: the name of a tag or, once it is written, its word."""

TRANSLATED = ("meta", "count", "character", "series", "general")
"""The sections whose tags have words in other languages. An artist's name is a name; ladders and safety words are a code."""


def canonical(section: str, name: str, policy: CaptionPolicy) -> str:
    """The word of a tag by its own name."""
    prefix = policy.artist_prefix if section == "artist" else ""
    while prefix and name.startswith(prefix):  # a source may have written it already
        name = name.removeprefix(prefix)
    word = name if policy.underscores else to_words(name)
    return prefix + word if word else ""


def worded(
    tags: Iterable[Tag], language: str, policy: CaptionPolicy, rng: random.Random
) -> tuple[list[Tag], Counter[str]]:
    """Every tag as it is written in a caption of `language`; and how many were translated, and how many of each language
    had no word (`untranslated ja`)."""
    told = Counter[str]()
    mixed = policy.mixed > 0 and rng.random() < policy.mixed
    if mixed:
        told["mixed"] = 1
    written: list[Tag] = []
    for section, name in tags:
        word = canonical(section, name, policy)
        if section in TRANSLATED:
            own = draw(policy.languages, rng) if mixed else language
            found = _other_word(name, own, policy, rng, told, certain=mixed)
            word = canonical(section, found, policy) if found else word
        written.append((section, word))
    return written, told


def _other_word(
    name: str, language: str, policy: CaptionPolicy, rng: random.Random, told: Counter[str], *, certain: bool
) -> str | None:
    assert policy.wordbook is not None
    if language == "en":
        aliases = policy.wordbook.aliases(name) if policy.alias and rng.random() < policy.alias else ()
        alias = rng.choice(aliases) if aliases else None
        return to_name(alias) if alias and policy.underscores else alias
    if not certain and rng.random() >= policy.translate:
        return None
    words = policy.wordbook.translations(name, language)
    told["translated" if words else f"untranslated {language}"] += 1
    return rng.choice(words) if words else None


def draw(weights: Mapping[str, float], rng: random.Random) -> str:
    """A name with probability proportional to its weight, whatever the order of the mapping."""
    names = sorted(weights)
    return rng.choices(names, [weights[name] for name in names])[0]

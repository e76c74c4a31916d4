"""Facts of a picture to a caption: sections, shuffle, dropout, mixes, languages. Knows strings; knows no tokenizer or post."""

from __future__ import annotations

import hashlib
import random
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .concept import Concept
from .emphasis import unescape
from .policy import CaptionPolicy
from .sections import implied_by_others, sections
from .wording import Tag, canonical, draw, worded

__all__ = ["Caption", "CaptionPolicy", "Fits", "Piece", "count", "keyed", "pieces", "render", "sections", "variants"]

_SENTENCE_END = (".", "!", "?", "。", "！", "？", "…")
_SHORTENED = "general"  # the section that a caption can do without

Piece = tuple[str, str]
"""A part of a caption and where it comes from: a section, `sentence`, `trigger`, or nothing for what stands between."""

Fits = Callable[[str], bool]
"""Whether a text is short enough for those who read it."""


@dataclass(frozen=True)
class Caption:
    """A rendered caption.

    Attributes:
        text: what the text towers read; empty when the picture has no facts.
        kind: tags, sentence, tags+sentence or sentence+tags: what it became, not what was wished.
        language: of the sentence, or of the tags where they are translated; `en` for tags alone.
        wished: the language that was drawn but missing, None when nothing was missing.
        prior: the same caption with the class in place of the trigger: what a model that knows no trigger would be told. None for
            a picture without a trigger.
        translated: tags that are written in the drawn language.
        untranslated: language -> tags that were to be and have no word in it.
        shortened: tags that were left out so that it fits.
    """

    text: str
    kind: str
    language: str
    wished: str | None = None
    prior: str | None = None
    translated: int = 0
    untranslated: tuple[tuple[str, int], ...] = ()
    shortened: int = 0


def render(facts: Mapping[str, Any], policy: CaptionPolicy, rng: random.Random, *, fits: Fits | None = None) -> Caption:
    """One caption drawn from `policy`. `facts` has tags, captions, rating, width, height, created_at, source; all may be missing.

    Without a sentence in the drawn language the English one is used; without any, the tags alone, and the other way round. Tags
    that are translated follow the sentence, so that a caption has one language. `fits` is asked where the policy names encoders.
    """
    return pieces(facts, policy, rng, fits=fits)[0]


def pieces(
    facts: Mapping[str, Any], policy: CaptionPolicy, rng: random.Random, *, fits: Fits | None = None
) -> tuple[Caption, list[Piece]]:
    """What `render` gives, and the parts that its text consists of."""
    kind = draw(policy.kinds, rng)
    language = draw(policy.languages, rng)
    by_word = _draw_tags(facts, policy, rng)
    tags = [(section, word) for word, (section, _) in by_word.items()]
    # An escaped parenthesis is a mark for the prompt of a picture, and what the text towers see there is the parenthesis alone.
    sentences = {k: unescape(v).strip() for k, v in (facts.get("captions") or {}).items() if v and v.strip()}
    found = language if language in sentences else "en"
    sentence = sentences.get(found, "") if "sentence" in kind else ""
    wished = language if "sentence" in kind and (found != language or not sentence) else None
    concept = policy.concept_of(facts)
    if (
        concept and not tags
    ):  # few pictures, and no caption of them may be wasted: a sentence speaks for tags that are not there
        sentence = sentences.get(found, "")
    if not sentence:
        kind, found = "tags", "en"
    elif "tags" not in kind or not tags:
        kind = "sentence"
    told: Counter[str] = Counter()
    if kind != "sentence" and policy.asks_words:
        tags, told = worded(by_word.values(), found if sentence else language, policy, rng)
        if not sentence:
            found, wished = _language_of_tags(language, wished, told)
    if policy.fit and fits is not None:
        kept = _shortened(tags, lambda tags: fits(_text(_parts(concept, kind, tags, sentence, policy))), policy)
        told["shortened"], tags = len(tags) - len(kept), kept
        kind = kind if tags or not sentence else "sentence"
    parts = _parts(concept, kind, tags, sentence, policy)
    prior = _text(_parts(concept, kind, tags, sentence, policy, prior=True)) if concept and concept.trigger else None
    untranslated = tuple((name.split()[1], number) for name, number in sorted(told.items()) if " " in name)
    caption = Caption(_text(parts), kind, found, wished, prior, told["translated"], untranslated, told["shortened"])
    return caption, parts


def variants(
    facts: Mapping[str, Any], policy: CaptionPolicy, *, count: int, seed: int, uid: int, fits: Fits | None = None
) -> list[Caption]:
    """`count` captions; the k-th depends on (seed, uid, k) and nothing else, in every process and for every count."""
    return [render(facts, policy, keyed(seed, uid, k), fits=fits) for k in range(count)]


def count(captions: Iterable[Caption]) -> dict[str, Counter[str]]:
    """How many captions of each kind and language there are, and of each language that was wished but missing; and where tags are
    translated or left out for length, how many were and how many have no translation."""
    captions = list(captions)
    told = {
        "kinds": Counter(caption.kind for caption in captions),
        "languages": Counter(caption.language for caption in captions),
        "missing_languages": Counter(caption.wished for caption in captions if caption.wished),
    }
    tags = Counter({"translated": sum(caption.translated for caption in captions)})
    tags["shortened"] = sum(caption.shortened for caption in captions)
    missing: Counter[str] = Counter()
    for caption in captions:
        missing.update(dict(caption.untranslated))
    return told | {name: +found for name, found in (("tags", tags), ("missing_translations", missing)) if +found}


def _draw_tags(facts: Mapping[str, Any], policy: CaptionPolicy, rng: random.Random) -> dict[str, Tag]:
    """The tags that are written, in order: word -> section and name."""
    found = sections(facts, policy)
    if policy.official_style and found.get("artist") and _is_official(facts) and rng.random() < policy.official_style:
        found["artist"] = []
    pools = [[(section, name) for section in group for name in found[section]] for group in policy.groups]
    kept: list[Tag] = []
    for pool in pools:  # the first tags of all stay where they are, and are never dropped
        while pool and len(kept) < policy.keep_first:
            kept.append(pool.pop(0))
    if policy.drops_implied:
        implied = implied_by_others([name for section in found for name in found[section]], policy)
        for pool in pools:
            pool[:] = [tag for tag in pool if not _is_dropped(tag, implied, policy, rng)]
    shuffled = rng.random() < policy.shuffle
    for pool in pools:
        pool[:] = [(section, name) for section, name in pool if rng.random() >= policy.dropout_of(section, name)]
        if shuffled:
            _shuffle(pool, policy.fixed, rng)
    by_word: dict[str, Tag] = {}
    for section, name in kept + [tag for pool in pools for tag in pool]:
        if word := canonical(section, name, policy):
            by_word.setdefault(word, (section, name))
    return by_word


def _is_dropped(tag: Tag, implied: set[str], policy: CaptionPolicy, rng: random.Random) -> bool:
    section, name = tag
    return name in implied and section not in policy.protected and rng.random() < policy.drops_implied


def _is_official(facts: Mapping[str, Any]) -> bool:
    return any("official_art" in names for names in (facts.get("tags") or {}).values())


def _language_of_tags(language: str, wished: str | None, told: Counter[str]) -> tuple[str, str | None]:
    """Language of a caption without a sentence, and the one that was drawn in vain."""
    if told["mixed"]:
        return "mixed", None
    if told["translated"]:
        return language, None
    return "en", language if told.total() else wished


def _shortened(tags: list[Tag], fits: Callable[[list[Tag]], bool], policy: CaptionPolicy) -> list[Tag]:
    """The tags without as few of the last general ones as make the caption fit; without all of them where nothing does."""
    general = [place for place, (section, _) in enumerate(tags) if section == _SHORTENED and place >= policy.keep_first]

    def without(number: int) -> list[Tag]:
        gone = set(general[len(general) - number :])
        return [tag for place, tag in enumerate(tags) if place not in gone]

    return without(bisect_left(range(len(general)), True, key=lambda number: fits(without(number))))


def _parts(
    concept: Concept | None, kind: str, tags: list[Tag], sentence: str, policy: CaptionPolicy, *, prior: bool = False
) -> list[Piece]:
    """The caption of a picture, in pieces; with `prior` the one about the class of its concept."""
    if concept is None:
        return _joined(kind, tags, sentence, policy)
    if not tags and kind == "tags" and concept.class_word:
        tags = [("trigger", concept.class_word)]  # nothing else is known of it
    lead = concept.class_word if prior else concept.lead
    said = kind.startswith("sentence") and concept.said_in(sentence)
    sentence = concept.without(sentence) if prior else sentence
    opening: list[Piece] = []
    if lead and kind.startswith("tags"):
        tags = [("trigger", lead), *tags]
    elif lead and not said:
        opening = [("trigger", lead), ("", ", ")]
    return opening + _joined(kind, tags, sentence, policy)


def _joined(kind: str, tags: Iterable[Tag], sentence: str, policy: CaptionPolicy) -> list[Piece]:
    by_word: dict[str, Tag] = {}
    for section, word in tags:
        by_word.setdefault(word, (section, word))
    listed = [piece for tag in by_word.values() for piece in (("", policy.separator), tag)][1:]
    parts = {"tags": listed, "sentence": [("sentence", sentence)] if sentence else []}
    first, *second = (parts[name] for name in kind.split("+"))
    if not second or not second[0]:
        return first
    between = " " if _text(first).endswith(_SENTENCE_END) else ". "
    return [*first, ("", between), *second[0]]


def _text(parts: Iterable[Piece]) -> str:
    return "".join(text for _, text in parts)


def _shuffle(pool: list[Tag], fixed: tuple[str, ...], rng: random.Random) -> None:
    """In place; tags of fixed sections stay where they are."""
    moving = [tag for tag in pool if tag[0] not in fixed]
    rng.shuffle(moving)
    rest = iter(moving)
    pool[:] = [tag if tag[0] in fixed else next(rest) for tag in pool]


def keyed(*parts: int) -> random.Random:
    """What the k-th of `variants` is drawn from: `keyed(seed, uid, k)`."""
    text = "\x1f".join(map(str, ("caption", *parts)))
    return random.Random(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big"))

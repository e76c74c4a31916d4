"""Facts of a picture to a caption: sections, shuffle, dropout, mixes, languages. Knows strings; knows no tokenizer or post."""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .concept import Concept
from .emphasis import unescape
from .policy import CaptionPolicy
from .tags import size_tags, to_words

__all__ = ["Caption", "CaptionPolicy", "count", "render", "sections", "variants"]

_COUNT = re.compile(r"\d+\+?(girl|boy|other)s?|multiple_(girls|boys|others)|solo|no_humans")
_SOLO = ("solo", "general")  # tells how many there are, and is a general tag for some
_QUALITY = re.compile(
    r"masterpiece|(best|amazing|great|high|good|normal|average|low|bad|worst)_quality|score_\d+(_up)?|very_aesthetic|aesthetic|displeasing|"
    r"very_displeasing"
)
_SIZES = ("absurdres", "highres", "lowres")
_SENTENCE_END = (".", "!", "?", "。", "！", "？", "…")


@dataclass(frozen=True)
class Caption:
    """A rendered caption.

    Attributes:
        text: what the text towers read; empty when the picture has no facts.
        kind: tags, sentence, tags+sentence or sentence+tags: what it became, not what was wished.
        language: of the sentence; `en` for tags alone.
        wished: the language that was drawn but missing, None when nothing was missing.
        prior: the same caption with the class in place of the trigger: what a model that knows no trigger would be told. None for
            a picture without a trigger.
    """

    text: str
    kind: str
    language: str
    wished: str | None = None
    prior: str | None = None


def render(facts: Mapping[str, Any], policy: CaptionPolicy, rng: random.Random) -> Caption:
    """One caption drawn from `policy`. `facts` has tags, captions, rating, width, height, created_at, source; all may be missing.

    Without a sentence in the drawn language the English one is used; without any, the tags alone, and the other way round.
    """
    kind = _draw(policy.kinds, rng)
    language = _draw(policy.languages, rng)
    tags = _draw_tags(facts, policy, rng)
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
    if concept is None:
        return Caption(_text(kind, tags, sentence, policy), kind, found, wished)
    text, prior = _about(concept, kind, tags, sentence, policy)
    return Caption(text, kind, found, wished, prior)


def variants(facts: Mapping[str, Any], policy: CaptionPolicy, *, count: int, seed: int, uid: int) -> list[Caption]:
    """`count` captions; the k-th depends on (seed, uid, k) and nothing else, in every process and for every count."""
    return [render(facts, policy, _rng(seed, uid, k)) for k in range(count)]


def count(captions: Iterable[Caption]) -> dict[str, Counter[str]]:
    """How many captions of each kind and language there are, and of each language that was wished but missing."""
    captions = list(captions)
    return {
        "kinds": Counter(caption.kind for caption in captions),
        "languages": Counter(caption.language for caption in captions),
        "missing_languages": Counter(caption.wished for caption in captions if caption.wished),
    }


def sections(facts: Mapping[str, Any], policy: CaptionPolicy) -> dict[str, list[str]]:
    """Tag names of every section, in stored order, before shuffling and dropout."""
    tags = facts.get("tags") or {}
    concept = policy.concept_of(facts)
    if concept and not any(tags.values()):  # of a picture that nobody described its size alone says nothing
        policy = replace(policy, size_tags=False)
    if concept:
        tags = {category: [n for n in names if concept.keeps(category, n)] for category, names in tags.items()}
    found: dict[str, list[str]] = {name: [] for name in policy.sections}

    def put(section: str, names: Iterable[str]) -> None:
        if section in found:
            found[section] += [name for name in names if not policy.leaves_out(name)]

    quality = [name for names in tags.values() for name in names if _QUALITY.fullmatch(name)]
    put("quality", quality if policy.quality == "keep" else [])
    plain = {category: [name for name in names if name not in quality] for category, names in tags.items()}
    put("meta", _meta(plain.get("meta", []), facts, policy))
    year = str(facts.get("created_at") or "")[:4]
    put("year", [f"year_{year}"] if year.isdecimal() else [])
    put("period", filter(None, [policy.period_of(int(year)) if year.isdecimal() else None]))
    put("rating", filter(None, [policy.rating_words.get(facts.get("rating") or "unknown", "")]))
    counts = [name for name in plain.get("general", []) if _COUNT.fullmatch(name) and (name, policy.solo) != _SOLO]
    put("count", counts)
    put("character", plain.get("character", []))
    put("series", plain.get("copyright", []))
    put("artist", plain.get("artist", []))
    put("general", [name for name in plain.get("general", []) if name not in counts])
    return found


def _meta(names: list[str], facts: Mapping[str, Any], policy: CaptionPolicy) -> list[str]:
    """Size tags follow from the size where that is known; hand-written ones may be wrong or missing."""
    height, width = facts.get("height"), facts.get("width")
    if not (height and width):
        return names if policy.size_tags else [name for name in names if name not in _SIZES]
    others = [name for name in names if name not in _SIZES]
    return others + (size_tags(height, width) if policy.size_tags else [])


def _draw_tags(facts: Mapping[str, Any], policy: CaptionPolicy, rng: random.Random) -> list[str]:
    found = sections(facts, policy)
    if policy.official_style and found.get("artist") and _is_official(facts) and rng.random() < policy.official_style:
        found["artist"] = []
    pools = [[(section, name) for section in group for name in found[section]] for group in policy.groups]
    kept: list[tuple[str, str]] = []
    for pool in pools:  # the first tags of all stay where they are, and are never dropped
        while pool and len(kept) < policy.keep_first:
            kept.append(pool.pop(0))
    shuffled = rng.random() < policy.shuffle
    for pool in pools:
        pool[:] = [(section, name) for section, name in pool if rng.random() >= policy.dropout_of(section)]
        if shuffled:
            _shuffle(pool, policy.fixed, rng)
    drawn = kept + [tag for pool in pools for tag in pool]
    written = [_write(section, name, policy) for section, name in drawn]
    return list(dict.fromkeys(filter(None, written)))


def _is_official(facts: Mapping[str, Any]) -> bool:
    return any("official_art" in names for names in (facts.get("tags") or {}).values())


def _text(kind: str, tags: Iterable[str], sentence: str, policy: CaptionPolicy) -> str:
    parts = {"tags": policy.separator.join(dict.fromkeys(tags)), "sentence": sentence}
    return _join(*(parts[name] for name in kind.split("+")))


def _about(
    concept: Concept, kind: str, tags: list[str], sentence: str, policy: CaptionPolicy
) -> tuple[str, str | None]:
    """The caption of a concept's picture, and the same one about its class."""
    said = kind.startswith("sentence") and concept.said_in(sentence)

    def text(lead: str, sentence: str, tags: list[str]) -> str:
        if lead and kind.startswith("tags"):
            tags = [lead, *tags]
        elif lead and not said:
            sentence = f"{lead}, {sentence}"
        return _text(kind, tags, sentence, policy)

    if not tags and kind == "tags" and concept.class_word:
        tags = [concept.class_word]  # nothing else is known of it
    about = text(concept.lead, sentence, tags)
    if not concept.trigger:
        return about, None
    return about, text(concept.class_word, concept.without(sentence), tags)


def _shuffle(pool: list[tuple[str, str]], fixed: tuple[str, ...], rng: random.Random) -> None:
    """In place; tags of fixed sections stay where they are."""
    moving = [tag for tag in pool if tag[0] not in fixed]
    rng.shuffle(moving)
    rest = iter(moving)
    pool[:] = [tag if tag[0] in fixed else next(rest) for tag in pool]


def _write(section: str, name: str, policy: CaptionPolicy) -> str:
    prefix = policy.artist_prefix if section == "artist" else ""
    while prefix and name.startswith(prefix):  # a source may have written it already
        name = name.removeprefix(prefix)
    word = name if policy.underscores else to_words(name)
    return prefix + word if word else ""


def _join(first: str, second: str = "") -> str:
    if not second:
        return first
    return f"{first} {second}" if first.endswith(_SENTENCE_END) else f"{first}. {second}"


def _draw(weights: Mapping[str, float], rng: random.Random) -> str:
    """A name with probability proportional to its weight, whatever the order of the mapping."""
    names = sorted(weights)
    return rng.choices(names, [weights[name] for name in names])[0]


def _rng(*parts: int) -> random.Random:
    text = "\x1f".join(map(str, ("caption", *parts)))
    return random.Random(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big"))

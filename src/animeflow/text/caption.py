"""Facts of a picture to a caption: sections, shuffle, dropout, mixes, languages. Knows strings; knows no tokenizer or post."""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .policy import CaptionPolicy
from .tags import size_tags, to_words

__all__ = ["Caption", "CaptionPolicy", "count", "render", "sections", "variants"]

_COUNT = re.compile(r"\d+\+?(girl|boy|other)s?|multiple_(girls|boys|others)|solo|no_humans")
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
    """

    text: str
    kind: str
    language: str
    wished: str | None = None


def render(facts: Mapping[str, Any], policy: CaptionPolicy, rng: random.Random) -> Caption:
    """One caption drawn from `policy`. `facts` has tags, captions, rating, width, height, created_at; all may be missing.

    Without a sentence in the drawn language the English one is used; without any, the tags alone, and the other way round.
    """
    kind = _draw(policy.kinds, rng)
    language = _draw(policy.languages, rng)
    tags = _tag_text(facts, policy, rng)
    sentences = {k: v.strip() for k, v in (facts.get("captions") or {}).items() if v and v.strip()}
    found = language if language in sentences else "en"
    sentence = sentences.get(found, "") if "sentence" in kind else ""
    wished = language if "sentence" in kind and (found != language or not sentence) else None
    if "tags" not in kind and sentence:
        return Caption(sentence, "sentence", found, wished)
    if not sentence:
        return Caption(tags, "tags", "en", wished)
    if not tags:
        return Caption(sentence, "sentence", found, wished)
    first, second = (tags, sentence) if kind == "tags+sentence" else (sentence, tags)
    return Caption(_join(first, second), kind, found, wished)


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
    found: dict[str, list[str]] = {name: [] for name in policy.sections}

    def put(section: str, names: Iterable[str]) -> None:
        if section in found:
            found[section] += [name for name in names if not policy.leaves_out(name)]

    quality = [name for names in tags.values() for name in names if _QUALITY.fullmatch(name)]
    put("quality", quality if policy.quality == "keep" else [])
    plain = {category: [name for name in names if name not in quality] for category, names in tags.items()}
    put("meta", _meta(plain.get("meta", []), facts, policy))
    put("year", [f"year_{facts['created_at'][:4]}"] if str(facts.get("created_at") or "")[:4].isdecimal() else [])
    put("rating", filter(None, [policy.rating_words.get(facts.get("rating") or "unknown", "")]))
    put("count", [name for name in plain.get("general", []) if _COUNT.fullmatch(name)])
    put("character", plain.get("character", []))
    put("series", plain.get("copyright", []))
    put("artist", plain.get("artist", []))
    put("general", [name for name in plain.get("general", []) if not _COUNT.fullmatch(name)])
    return found


def _meta(names: list[str], facts: Mapping[str, Any], policy: CaptionPolicy) -> list[str]:
    """Size tags follow from the size where that is known; hand-written ones may be wrong or missing."""
    height, width = facts.get("height"), facts.get("width")
    if not (height and width):
        return names if policy.size_tags else [name for name in names if name not in _SIZES]
    others = [name for name in names if name not in _SIZES]
    return others + (size_tags(height, width) if policy.size_tags else [])


def _tag_text(facts: Mapping[str, Any], policy: CaptionPolicy, rng: random.Random) -> str:
    found = sections(facts, policy)
    pools = [[(section, name) for section in group for name in found[section]] for group in policy.groups]
    kept: list[tuple[str, str]] = []
    for pool in pools:  # the first tags of all stay where they are, and are never dropped
        while pool and len(kept) < policy.keep_first:
            kept.append(pool.pop(0))
    shuffled = rng.random() < policy.shuffle
    for pool in pools:
        pool[:] = [(section, name) for section, name in pool if rng.random() >= policy.dropout_of(section)]
        if shuffled:
            rng.shuffle(pool)
    drawn = kept + [tag for pool in pools for tag in pool]
    written = [_write(section, name, policy) for section, name in drawn]
    return policy.separator.join(dict.fromkeys(filter(None, written)))


def _write(section: str, name: str, policy: CaptionPolicy) -> str:
    if section == "artist" and policy.artist_prefix:
        name = name.removeprefix(policy.artist_prefix)
    word = name if policy.underscores else to_words(name)
    return policy.artist_prefix + word if section == "artist" else word


def _join(first: str, second: str) -> str:
    return f"{first} {second}" if first.endswith(_SENTENCE_END) else f"{first}. {second}"


def _draw(weights: Mapping[str, float], rng: random.Random) -> str:
    """A name with probability proportional to its weight, whatever the order of the mapping."""
    names = sorted(weights)
    return rng.choices(names, [weights[name] for name in names])[0]


def _rng(*parts: int) -> random.Random:
    text = "\x1f".join(map(str, ("caption", *parts)))
    return random.Random(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big"))

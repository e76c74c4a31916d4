"""Facts of a picture to the tags of every section, in stored order. Knows a policy; draws nothing and writes nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from .policy import CaptionPolicy
from .tags import size_tags

_COUNT = re.compile(r"\d+\+?(girl|boy|other)s?|multiple_(girls|boys|others)|solo|no_humans")
_SOLO = ("solo", "general")  # tells how many there are, and is a general tag for some
_QUALITY = re.compile(
    r"masterpiece|(best|amazing|great|high|good|normal|average|low|bad|worst)_quality|score_\d+(_up)?|very_aesthetic|aesthetic|displeasing|"
    r"very_displeasing"
)
_SIZES = ("absurdres", "highres", "lowres")


def sections(facts: Mapping[str, Any], policy: CaptionPolicy) -> dict[str, list[str]]:
    """Tag names of every section, in stored order, before shuffling and dropout."""
    tags = facts.get("tags") or {}
    if policy.implied == "add":
        tags = with_implied(tags, policy)
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
    if policy.quality == "score":
        put("quality", policy.bounds.labels(facts) if policy.bounds else [])
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
    for name, extra in policy.extra.items():
        put(name, extra.read(facts))
    return found


def with_implied(tags: Mapping[str, list[str]], policy: CaptionPolicy) -> dict[str, list[str]]:
    """The tags of every category, and behind them those that they imply and that stand nowhere yet. An artist implies nothing."""
    assert policy.wordbook is not None
    there, found = {name for names in tags.values() for name in names}, {}
    for category, names in tags.items():
        found[category] = list(names)
        for name in names if category != "artist" else ():
            missing = [parent for parent in policy.wordbook.implied(name) if parent not in there]
            found[category] += missing
            there.update(missing)
    return found


def implied_by_others(names: Iterable[str], policy: CaptionPolicy) -> set[str]:
    """Those of `names` that another one implies."""
    assert policy.wordbook is not None
    names = set(names)
    return {parent for name in names for parent in policy.wordbook.implied(name) if parent in names}


def _meta(names: list[str], facts: Mapping[str, Any], policy: CaptionPolicy) -> list[str]:
    """Size tags follow from the size where that is known; hand-written ones may be wrong or missing."""
    height, width = facts.get("height"), facts.get("width")
    if not (height and width):
        return names if policy.size_tags else [name for name in names if name not in _SIZES]
    others = [name for name in names if name not in _SIZES]
    return others + (size_tags(height, width) if policy.size_tags else [])

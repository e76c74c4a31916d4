"""Text about a picture, to tags and sentences; rows of a table, to Facts. Knows how people write them; knows no file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ...text.tags import CATEGORY_WORDS, empty_tags, rating_of, split_sidecar, split_tags
from ..candidate import Facts
from ..post import ORIGINS
from .booru import read_post
from .fields import iso_utc, number, page, parent_of, plain, signs_in
from .sites import post_at, site_of

NAMESPACES = {**CATEGORY_WORDS, "creator": "artist"}
TEXTS = ("text", "caption")
LANGUAGE = r"[a-z]{2}(?:-[A-Za-z]{2,4})?"
_END = (".", "!", "?", "。", "！", "？")
_IN_LANGUAGE = re.compile(rf"(?:{'|'.join(TEXTS)})[_.]({LANGUAGE})")
_OF_KEY = {
    "licence": ("licence", "license"),
    "generator": ("generator", "model_name"),
    "url": ("url", "source", "source_url"),
}


def is_sentence(text: str, *, expected: bool) -> bool:
    """Whether text is sentences rather than tags: long pieces between commas, or an end mark after words.

    Args:
        expected: what to believe of a text that could be either.
    """
    pieces = [piece.split() for piece in re.split(r"[,\n、，]", text) if piece.strip()]
    if not pieces:
        return False
    mean = sum(map(len, pieces)) / len(pieces)
    if text.rstrip().endswith(_END) and (mean > 2 or len(pieces) == 1):
        return True
    if len(pieces) >= 4 and mean <= 2.5:
        return False
    return expected or mean > 6


def read_tags(names: Iterable[str], facts: Facts) -> None:
    """Sort names into categories by their prefix (`artist:x`, `rating:general`, Anima's `@x` for an artist); others are general."""
    tags = facts.tags or empty_tags()
    for name in names:
        space, colon, rest = name.partition(":")
        rest = rest.strip("_")
        if colon and rest and space == "rating":
            facts.rating = rating_of(rest, site="folder")
        elif colon and rest and space in NAMESPACES:
            category = NAMESPACES[space]
            if category:
                tags[category].append(rest)
        elif name.startswith("@") and name.strip("@_"):  # but `@_@` is a face
            tags["artist"].append(name.removeprefix("@"))
        else:
            tags["general"].append(name)
    facts.tags = {category: list(dict.fromkeys(found)) for category, found in tags.items()}
    facts.surfaces += tuple(names)


def read_text(text: str, facts: Facts, *, language: str, expected: bool) -> None:
    """Tags or a sentence into `facts`; what the text looks like decides, and `expected` where it could be either."""
    if is_sentence(text, expected=expected):
        facts.captions[language] = " ".join(text.split())
    else:
        read_tags(split_sidecar(text), facts)


def read_row(row: Mapping[str, Any], *, language: str, rating: str = "unknown", origin: str = "unknown") -> Facts:
    """Facts of a row or an object with columns of common names, or with those of a booru's post.

    `tags` may be a list, or a string with commas or with spaces; `text` and `caption` are a sentence or tags, and `caption_ja` is
    in Japanese.
    """
    address = next((plain(row[key]) for key in _OF_KEY["url"] if "://" in str(row.get(key))), None)
    if site := site_of(row):
        facts = read_post(row, site)
    else:
        found = post_at(address or "")
        identity = plain(
            next((row[key] for key in ("source_id", "id", "post_id") if row.get(key) not in (None, "")), None)
        )
        facts = Facts(
            rating=rating_of(row.get("rating"), site=found[0] if found else "folder"),
            score=number(row.get("score")),
            created_at=iso_utc(row.get("created_at") or row.get("date")),
            source_id=identity or (found[1] if found else None),
            url=address or page("", None, row),
            site=found[0] if found else None,
            parent=parent_of(row),
        )
        read_tags(tags_in(row.get("tags")), facts)
    _texts(row, facts, language)
    tell_origin(facts, row)
    for key in ("licence", "generator"):
        setattr(facts, key, next((plain(row[name]) for name in _OF_KEY[key] if isinstance(row.get(name), str)), None))
    said = row.get("origin")
    if facts.origin == "unknown":
        facts.origin = said if isinstance(said, str) and said in ORIGINS else origin
    if facts.rating == "unknown":
        facts.rating = rating
    return facts


def tell_origin(facts: Facts, record: Mapping[str, Any] | None = None) -> None:
    """Evidence of AI in the tags, and in the record they are from; a claim for a whole folder stays where there is none."""
    signs = signs_in(facts.surfaces, record or {}, facts.site)
    facts.evidence = tuple(sign.word for sign in signs)
    facts.origin = signs[0].says if signs else facts.origin


def tags_in(value: Any) -> list[str]:
    """Tag names of a column. Without commas or lines, underscores or many words show that spaces part them."""
    if isinstance(value, str):
        text = plain(value) or ""
        words = text.split()
        spaced = not re.search(r"[,\n、，]", text) and len(words) > 1 and ("_" in text or len(words) > 6)
        return split_tags(text) if spaced else split_sidecar(text)
    return split_tags([plain(name) or "" for name in value if isinstance(name, str)]) if isinstance(value, list) else []


def _texts(row: Mapping[str, Any], facts: Facts, language: str) -> None:
    for key, value in row.items():
        marked = _IN_LANGUAGE.fullmatch(str(key))
        if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
            value = value[0] if is_sentence(value[0], expected=False) else ", ".join(value)
        if not isinstance(value, str) or not (text := plain(value.strip())):
            continue
        if marked:
            facts.captions[marked.group(1)] = " ".join(text.split())
        elif key in TEXTS:
            likely = key == "caption" or (
                "," not in text and " " in text
            )  # a row's text is a sentence more often than one tag
            read_text(text, facts, language=language, expected=likely)

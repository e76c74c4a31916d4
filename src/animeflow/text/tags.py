"""Booru tags as strings: normal forms, categories, and what each site's rating letter means. Knows no file and no caption."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping

from .emphasis import unescape

CATEGORIES = ("general", "character", "copyright", "artist", "meta")
RATINGS = ("general", "sensitive", "questionable", "explicit", "unknown")

# Danbooru's tags whose underscore is a part of the drawing; faces made of signs only are found by _FACE.
EMOTICONS = frozenset(
    (
        *("0_0", "(o)_(o)", "+_+", "+_-", "._.", "<o>_<o>", "<|>_<|>", "=_=", ">_<", "3_3", "6_9", ">_o", "o_<", "@_@"),
        *("^_^", "o_o", "u_u", "x_x", "t_t", "n_n", "q_q", "|_|", "||_||", "-_-", ";_;"),
    )
)
_SCORE = re.compile(r"score_\d+(_up)?")
_FACE = re.compile(r"[^\w\s]{1,3}_+[^\w\s]{1,3}")  # only signs on both sides of the underscore: a face
_SPACES = re.compile(r"\s+")

# A site's word for a category -> ours; None for tags that do not describe the picture.
CATEGORY_WORDS: Mapping[str, str | None] = {
    "general": "general",
    "artist": "artist",
    "character": "character",
    "copyright": "copyright",
    "series": "copyright",
    "meta": "meta",
    "metadata": "meta",
    "medium": "meta",
    "species": "general",
    "genre": "general",
    "style": "general",
    "contributor": None,
    "studio": None,
    "circle": None,
    "lore": None,
    "invalid": None,
    "deprecated": None,
    "faults": None,
}

_WORDS = {
    "general": "general",
    "safe": "general",
    "sensitive": "sensitive",
    "questionable": "questionable",
    "explicit": "explicit",
    "r-18": "explicit",
    "r-18g": "explicit",
}
_LETTERS = {"s": "general", "q": "questionable", "e": "explicit"}  # `s` is safe everywhere but on new Danbooru
_DANBOORU = {"g": "general", "s": "sensitive", "q": "questionable", "e": "explicit"}
DANBOORU_SITES = frozenset({"danbooru", "aibooru"})


def to_name(tag: str) -> str:
    """The stored form of a tag: NFKC, lower case, underscores for spaces. `" Long  Hair"` becomes `"long_hair"`."""
    return _SPACES.sub("_", unicodedata.normalize("NFKC", tag).strip().lower())


def to_words(name: str) -> str:
    """The written form of a tag name: underscores become spaces, except in emoticons (`^_^`) and ladders (`score_7`)."""
    if name in EMOTICONS or _SCORE.fullmatch(name) or _FACE.fullmatch(name):
        return name
    return name.replace("_", " ")


def split_tags(value: str | Iterable[str] | None) -> list[str]:
    """Tag names from a site's field: a list, a space-separated string, or nothing. Order kept, repeats dropped."""
    if not value:
        return []
    parts = value.split() if isinstance(value, str) else [part for part in value if isinstance(part, str)]
    return list(dict.fromkeys(filter(None, map(to_name, parts))))


def split_sidecar(text: str) -> list[str]:
    r"""Tag names from a text sidecar: one per line, or separated by commas. A lone line without commas is one tag.

    `miku \(vocaloid\)` was written for a prompt: the name is `miku_(vocaloid)`.
    """
    return list(dict.fromkeys(filter(None, map(to_name, re.split(r"[,\n、，]", unescape(text))))))


def rating_of(value: str | None, *, site: str, before_2022: bool = False) -> str:
    """The stored rating of a site's letter or word; `unknown` for anything else.

    `s` is `sensitive` on Danbooru since 2022 and `safe` (here: general) on every other site and in Danbooru dumps made
    `before_2022`, so the letter alone says nothing.
    """
    if not isinstance(value, str):
        return "unknown"
    word = value.strip().lower()
    if len(word) == 1:
        return (_DANBOORU if site in DANBOORU_SITES and not before_2022 else _LETTERS).get(word, "unknown")
    return _WORDS.get(word, "unknown")


def empty_tags() -> dict[str, list[str]]:
    """Every category with no tag, in the stored order."""
    return {category: [] for category in CATEGORIES}


def size_tags(height: int, width: int) -> list[str]:
    """Danbooru's rule: absurdres from 3200 wide or 2400 high, highres from 1600 or 1200, lowres when both sides are at most 500.

    An absurdres picture is highres too.
    """
    if width >= 3200 or height >= 2400:
        return ["absurdres", "highres"]
    if width >= 1600 or height >= 1200:
        return ["highres"]
    if width <= 500 and height <= 500:
        return ["lowres"]
    return []

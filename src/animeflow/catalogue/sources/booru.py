"""One post of a booru's answer, of any of the known sites, to Facts. Knows field names; knows no file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...text.tags import CATEGORY_WORDS, empty_tags, rating_of, split_tags
from ..candidate import Facts
from .fields import iso_utc, number, origin_of, page

_PREFIXES = ("tags_", "tag_string_")
_SANKAKU = {0: "general", 1: "artist", 2: "studio", 3: "copyright", 4: "character", 5: "genre", 8: "medium", 9: "meta"}


def read_post(record: Mapping[str, Any], site: str, *, before_2022: bool = False) -> Facts:
    """Facts of a post. Takes API objects and gallery-dl's metadata; lists and space-separated strings alike.

    Args:
        site: danbooru, gelbooru, yandere, konachan, sankaku, e621, pixiv, ...: it decides what a rating letter means.
        before_2022: a Danbooru dump from when `s` meant safe.
    """
    tags, surfaces = _tags(record)
    identity = record.get("id")
    score = next((record[key] for key in ("score", "total_score") if record.get(key) is not None), None)
    created = next((record[key] for key in ("created_at", "create_date", "date") if record.get(key)), None)
    return Facts(
        tags=tags,
        rating=_rating(record, site, before_2022=before_2022),
        score=number(score),
        created_at=iso_utc(created),
        source_id=None if identity is None else str(identity),
        url=page(site, identity, record),
        origin=origin_of(surfaces, record),
        site=site,
        surfaces=tuple(surfaces),
    )


def md5_of(record: Mapping[str, Any]) -> str | None:
    """md5 of the post's file; missing for restricted posts."""
    file = record.get("file")
    digest = record.get("md5") or (file.get("md5") if isinstance(file, Mapping) else None)
    return digest.lower() if isinstance(digest, str) and len(digest) == 32 else None


def _tags(record: Mapping[str, Any]) -> tuple[dict[str, list[str]], list[str]]:
    """Tags by our categories, and every tag as found."""
    whole = record.get("tags") or record.get("tag_string")
    parts = {_category(key): split_tags(record[key]) for key in record if key.startswith(_PREFIXES)}
    surfaces: list[str] = []
    if isinstance(whole, Mapping):  # e621's API: {"general": [...], ...}
        parts = {category: split_tags(names) for category, names in whole.items()}
    elif isinstance(whole, list) and whole and isinstance(whole[0], Mapping):  # sankaku's API: objects with a number
        parts, surfaces = _numbered(whole)
        whole = record.get("tag_names")
    if not isinstance(whole, Mapping):
        surfaces += split_tags(whole)
    surfaces += [name for names in parts.values() for name in names]
    found = empty_tags()
    for word, names in parts.items():
        category = CATEGORY_WORDS.get(word)
        if category:
            found[category] += names
    if not any(parts.values()) or whole is record.get("tag_names"):
        placed = {name for names in parts.values() for name in names}
        found["general"] += [
            name for name in split_tags(None if isinstance(whole, Mapping) else whole) if name not in placed
        ]
    return {category: list(dict.fromkeys(names)) for category, names in found.items()}, list(dict.fromkeys(surfaces))


def _category(key: str) -> str:
    return key.removeprefix("tags_").removeprefix("tag_string_")


def _numbered(tags: list[Mapping[str, Any]]) -> tuple[dict[str, list[str]], list[str]]:
    """Sankaku's tag objects by category, and all their names in all languages."""
    parts: dict[str, list[str]] = {}
    for tag in tags:
        name = tag.get("tagName") or tag.get("name_en") or tag.get("name") or ""
        parts.setdefault(_SANKAKU.get(tag.get("type", 0), "general"), []).extend(split_tags([str(name)]))
    surfaces = [
        value for tag in tags for key, value in tag.items() if key.startswith("name") and isinstance(value, str)
    ]
    return parts, split_tags(surfaces)


def _rating(record: Mapping[str, Any], site: str, *, before_2022: bool) -> str:
    if site == "pixiv":
        return {0: "unknown", 1: "explicit", 2: "explicit"}.get(number(record.get("x_restrict")) or 0, "unknown")
    return rating_of(record.get("rating"), site=site, before_2022=before_2022)

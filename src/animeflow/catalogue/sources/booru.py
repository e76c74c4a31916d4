"""One post of a booru's answer, of any of the known sites, to Facts. Knows field names; knows no file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...text.tags import CATEGORY_WORDS, empty_tags, rating_of, split_tags
from ..candidate import Facts
from .fields import iso_utc, number, origin_of, page

_PREFIXES = ("tags_", "tag_string_")


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
    found = empty_tags()
    whole = record.get("tags") or record.get("tag_string")
    if isinstance(whole, Mapping):  # e621's API: {"general": [...], ...}
        parts = {f"tags_{category}": names for category, names in whole.items()}
    else:
        parts = {key: record[key] for key in record if key.startswith(_PREFIXES)}
    surfaces = [] if isinstance(whole, Mapping) else split_tags(_names(whole))
    for key, value in parts.items():
        names = split_tags(value)
        surfaces += names
        category = CATEGORY_WORDS.get(key.removeprefix("tags_").removeprefix("tag_string_"))
        if category:
            found[category] += names
    sorted_out = {name for names in found.values() for name in names}
    if not parts:
        found["general"] = [name for name in surfaces if name not in sorted_out]
    return {category: list(dict.fromkeys(names)) for category, names in found.items()}, list(dict.fromkeys(surfaces))


def _names(value: Any) -> Any:
    """Sankaku's API gives tags as objects with a name, in one or several spellings."""
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        return [str(tag.get("name_en") or tag.get("name") or tag.get("tagName") or "") for tag in value]
    return value


def _rating(record: Mapping[str, Any], site: str, *, before_2022: bool) -> str:
    if site == "pixiv":
        return {0: "unknown", 1: "explicit", 2: "explicit"}.get(number(record.get("x_restrict")) or 0, "unknown")
    return rating_of(record.get("rating"), site=site, before_2022=before_2022)

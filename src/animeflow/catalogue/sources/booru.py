"""One post of a booru's answer, of any of the known sites, to Facts. Knows field names; knows no file."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from ...text.tags import CATEGORY_WORDS, empty_tags, rating_of, split_tags, to_name
from ..candidate import Facts
from .fields import iso_utc, names_in, number, page, parent_of, plain, signs_in

_PREFIXES = ("tags_", "tag_string_")
_SANKAKU = {0: "general", 1: "artist", 2: "studio", 3: "copyright", 4: "character", 5: "genre", 8: "medium", 9: "meta"}


def read_post(record: Mapping[str, Any], site: str, *, before_2022: bool = False) -> Facts:
    """Facts of a post. Takes API objects and gallery-dl's metadata; lists and space-separated strings alike.

    Args:
        site: danbooru, gelbooru, yandere, konachan, sankaku, e621, pixiv, ...: it decides what a rating letter means.
        before_2022: a Danbooru dump from when `s` meant safe.
    """
    if site == "gelbooru" and isinstance(record.get("tags"), str):  # its API writes ' as &#039;
        record = {**record, "tags": html.unescape(record["tags"])}
    tags, surfaces = _tags(record)
    if site == "pixiv" and not tags["artist"] and (artist := _artist(record)):
        tags["artist"], surfaces = [artist], [*surfaces, artist]
    identity = record.get("id")
    score = next((record[key] for key in ("score", "total_score") if record.get(key) is not None), None)
    created = next((record[key] for key in ("created_at", "create_date", "date") if record.get(key)), None)
    signs = signs_in(surfaces, record, site)
    return Facts(
        tags=tags,
        rating=_rating(record, site, before_2022=before_2022),
        score=number(score),
        created_at=iso_utc(created),
        source_id=plain(identity),
        url=page(site, identity, record),
        origin=signs[0].says if signs else "unknown",
        site=plain(site),
        surfaces=tuple(surfaces),
        evidence=tuple(sign.word for sign in signs),
        parent=parent_of(record),
        unsorted=not _names_categories(record, site),
    )


def md5_of(record: Mapping[str, Any]) -> str | None:
    """md5 of the post's file; missing for restricted posts."""
    file = record.get("file")
    digest = record.get("md5") or (file.get("md5") if isinstance(file, Mapping) else None)
    return digest.lower() if isinstance(digest, str) and len(digest) == 32 else None


def _tags(record: Mapping[str, Any]) -> tuple[dict[str, list[str]], list[str]]:
    """Tags by our categories, and every tag as found."""
    whole = record.get("tags") or record.get("tag_string")
    parts = {_category(key): names_in(record[key]) for key in record if key.startswith(_PREFIXES)}
    surfaces: list[str] = []
    numbered = isinstance(whole, list) and any(isinstance(tag, Mapping) for tag in whole)
    if isinstance(whole, Mapping):  # e621's API: {"general": [...], ...}
        parts, whole = {str(category): names_in(names) for category, names in whole.items()}, None
    elif numbered:  # sankaku's API: objects with a number
        parts, surfaces = _numbered([tag for tag in whole or [] if isinstance(tag, Mapping)])
        whole = record.get("tag_names")
    every = names_in(whole)
    surfaces += every + [name for names in parts.values() for name in names]
    found = empty_tags()
    for word, names in parts.items():
        category = CATEGORY_WORDS.get(word)
        if category:
            found[category] += names
    if numbered or not any(parts.values()):
        placed = {name for names in parts.values() for name in names}
        found["general"] += [name for name in every if name not in placed]
    return {category: list(dict.fromkeys(names)) for category, names in found.items()}, list(dict.fromkeys(surfaces))


def _names_categories(record: Mapping[str, Any], site: str) -> bool:
    """Whether the site says of its tags what they are; pixiv's objects are words and their translations."""
    whole = record.get("tags")
    objects = isinstance(whole, list) and any(isinstance(tag, Mapping) for tag in whole)
    told = isinstance(whole, Mapping) or objects or any(key.startswith(_PREFIXES) and record[key] for key in record)
    return told and site != "pixiv"


def _artist(record: Mapping[str, Any]) -> str | None:
    """Who put a work on pixiv: the name in their address, which stays, else the one that they show."""
    user = record.get("user")
    names = [plain(user.get(key)) for key in ("account", "name")] if isinstance(user, Mapping) else []
    return next((name for said in names if said and (name := to_name(said))), None)


def _category(key: str) -> str:
    return key.removeprefix("tags_").removeprefix("tag_string_")


def _numbered(tags: list[Mapping[str, Any]]) -> tuple[dict[str, list[str]], list[str]]:
    """Sankaku's and pixiv's tag objects by category, and all their names in all languages."""
    parts: dict[str, list[str]] = {}
    for tag in tags:
        name = plain(tag.get("tagName") or tag.get("name_en") or tag.get("name")) or ""
        category = _SANKAKU.get(number(tag.get("type")) or 0, "general")
        parts.setdefault(category, []).extend(split_tags([name]))
    named = [value for tag in tags for key, value in tag.items() if "name" in str(key).lower()]
    return parts, names_in([value for value in named if isinstance(value, str)])


def _rating(record: Mapping[str, Any], site: str, *, before_2022: bool) -> str:
    """Danbooru's API has `media_asset` since after its letters changed, so a post with one was never rated by the old ones."""
    if site == "pixiv" and (limit := number(record.get("x_restrict"))) is not None:
        return {0: "unknown", 1: "explicit", 2: "explicit"}.get(limit, "unknown")
    rating = rating_of(record.get("rating"), site=site, before_2022=before_2022 and "media_asset" not in record)
    return "unknown" if site == "pixiv" and rating == "general" else rating  # there it only says that nobody forbade it

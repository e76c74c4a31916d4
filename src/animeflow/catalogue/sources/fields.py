"""Single fields of booru answers: dates, numbers, links, origin. Knows how sites write them; knows no file."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from ...image.evidence.sign import Sign
from ...text.tags import split_tags

PAGES = {
    "danbooru": "https://danbooru.donmai.us/posts/{}",
    "gelbooru": "https://gelbooru.com/index.php?page=post&s=view&id={}",
    "yandere": "https://yande.re/post/show/{}",
    "konachan": "https://konachan.com/post/show/{}",
    "sankaku": "https://chan.sankakucomplex.com/posts/{}",
    "e621": "https://e621.net/posts/{}",
    "e6ai": "https://e6ai.net/posts/{}",
    "aibooru": "https://aibooru.online/posts/{}",
    "pixiv": "https://www.pixiv.net/artworks/{}",
}
ALL_AI = ("e6ai", "aibooru")  # sites that take generated pictures only


def iso_utc(value: Any) -> str | None:
    """A moment as ISO 8601 in UTC, to the second; None for what is no date.

    Reads ISO, seconds since 1970, `2023-02-25 19:54:00` (UTC), `Sat Feb 25 19:54:00 +0000 2023`, and RFC 2822.
    """
    if isinstance(value, Mapping):  # sankaku's API: {"json_class": "Time", "s": ...}
        value = value.get("s")
    if isinstance(value, bool) or value in (None, ""):
        return None
    try:
        if isinstance(value, int | float) or str(value).isdecimal():
            moment = datetime.fromtimestamp(int(value), UTC)
        else:
            moment = _parse(str(value))
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError, OSError, TypeError, IndexError):
        return None
    return moment.isoformat(timespec="seconds")


def _parse(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        pass
    try:
        return datetime.strptime(text, "%a %b %d %H:%M:%S %z %Y")
    except ValueError:
        return parsedate_to_datetime(text)


def number(value: Any) -> int | None:
    """A whole number that the table can hold, from a number, its digits, or e621's {"total": n}."""
    if isinstance(value, Mapping):
        value = value.get("total")
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = int(value)
    except (ValueError, OverflowError):
        return None
    return found if -(2**63) <= found < 2**63 else None


def plain(value: Any) -> str | None:
    """Text, or a number as text, that can be stored: JSON may hold halves of characters. None for anything else and for nothing."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value).encode("utf-8", "replace").decode() or None


def names_in(value: Any) -> list[str]:
    """Tag names of a field: a list, a string with spaces, or an object of such. Anything else holds none."""
    if isinstance(value, Mapping):
        return [name for part in value.values() for name in names_in(part)]
    if isinstance(value, str):
        return split_tags(plain(value))
    return split_tags([plain(name) or "" for name in value if isinstance(name, str)]) if isinstance(value, list) else []


def page(site: str, identity: Any, record: Mapping[str, Any]) -> str | None:
    """The post's page where the site is known, else the file's own address."""
    identity = plain(identity)
    if site in PAGES and identity is not None:
        return PAGES[site].format(identity)
    address = record.get("file_url") or record.get("url")
    return plain(address) if isinstance(address, str) else None


def parent_of(record: Mapping[str, Any]) -> str | None:
    """Id of the post that this one is a version of. Gelbooru writes 0 for none, e621 has it among the relationships."""
    relations = record.get("relationships")
    parent = plain(record.get("parent_id") or (relations.get("parent_id") if isinstance(relations, Mapping) else None))
    return None if parent in (None, "0", plain(record.get("id"))) else parent


def signs_in(tags: Collection[str], record: Mapping[str, Any], site: str | None = None) -> tuple[Sign, ...]:
    """What a post's own record says of its origin, strongest first. A post that says nothing proves nothing.

    Sources: the tags of the boorus, pixiv's illust_ai_type 2, sankaku's generation_directives, sites for generated pictures alone.
    `ai-generated_art_(topic)` is about a picture's subject and no sign.
    """
    names = {tag.replace("-", "_") for tag in tags}
    found = []
    if "ai_generated" in names:
        found.append(Sign("certain", "ai", "tag", "ai-generated"))
    if number(record.get("illust_ai_type")) == 2:
        found.append(Sign("certain", "ai", "field", "illust_ai_type"))
    if record.get("generation_directives"):
        found.append(Sign("certain", "ai", "field", "generation_directives"))
    found += [Sign("certain", "ai", "field", name) for name in ALL_AI if name in (site, record.get("category"))]
    if "ai_assisted" in names:
        found.append(Sign("declared", "ai_assisted", "tag", "ai-assisted"))
    return tuple(found)

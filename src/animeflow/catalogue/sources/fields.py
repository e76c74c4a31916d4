"""Single fields of booru answers: dates, numbers, links, origin. Knows how sites write them; knows no file."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

PAGES = {
    "danbooru": "https://danbooru.donmai.us/posts/{}",
    "gelbooru": "https://gelbooru.com/index.php?page=post&s=view&id={}",
    "yandere": "https://yande.re/post/show/{}",
    "konachan": "https://konachan.com/post/show/{}",
    "sankaku": "https://chan.sankakucomplex.com/posts/{}",
    "e621": "https://e621.net/posts/{}",
    "pixiv": "https://www.pixiv.net/artworks/{}",
}


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
    except (ValueError, OverflowError, OSError, TypeError):
        return None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
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
    """A whole number, from a number, its digits, or e621's {"total": n}."""
    if isinstance(value, Mapping):
        value = value.get("total")
    if isinstance(value, bool) or value is None:
        return None
    try:
        return int(value)
    except (TypeError, ValueError):
        return None


def page(site: str, identity: Any, record: Mapping[str, Any]) -> str | None:
    """The post's page where the site is known, else the file's own address."""
    if site in PAGES and identity is not None:
        return PAGES[site].format(identity)
    address = record.get("file_url") or record.get("url")
    return address if isinstance(address, str) else None


def origin_of(tags: Collection[str], record: Mapping[str, Any]) -> str:
    """`ai` or `ai_assisted` where the site says so. Saying nothing proves nothing: `unknown`.

    Sources: Danbooru's meta tags, pixiv's illust_ai_type 2, sankaku's generation_directives, e6ai, where all posts are.
    """
    names = {tag.replace("-", "_") for tag in tags}
    directives = record.get("generation_directives")
    generated = "ai_generated" in names or record.get("illust_ai_type") == 2 or record.get("category") == "e6ai"
    if generated or directives:
        return "ai"
    return "ai_assisted" if "ai_assisted" in names else "unknown"

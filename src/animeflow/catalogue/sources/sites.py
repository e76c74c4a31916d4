"""Which site a post is from, by its keys and addresses. Knows the shapes of their answers; reads no tag and no file."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from ...core.errors import ConfigError
from .fields import PAGES

AUTO = "auto"

# Sites whose posts have one shape; a site of neither row is believed to have any.
FAMILIES = {
    "danbooru": "danbooru",
    "aibooru": "danbooru",
    "gelbooru": "gelbooru",
    "yandere": "moebooru",
    "konachan": "moebooru",
    "moebooru": "moebooru",
    "sankaku": "sankaku",
    "e621": "e621",
    "e6ai": "e621",
    "pixiv": "pixiv",
}
_HOSTS = {
    "donmai.us": "danbooru",
    "aibooru.online": "aibooru",
    "aibooru.download": "aibooru",
    "gelbooru.com": "gelbooru",
    "yande.re": "yandere",
    "konachan.com": "konachan",
    "konachan.net": "konachan",
    "sankakucomplex.com": "sankaku",
    "e621.net": "e621",
    "e926.net": "e621",
    "e6ai.net": "e6ai",
    "pixiv.net": "pixiv",
    "pximg.net": "pixiv",
}


def known_site(site: str, *, where: str = "catalogue.site") -> str:
    """The site as it was named: any name, but for one that is nearly a known one. Raises ConfigError."""
    near = difflib.get_close_matches(site, [*FAMILIES, AUTO], n=1, cutoff=0.85)
    if near and site not in (*FAMILIES, AUTO):
        raise ConfigError(
            f"unknown site '{site}' (did you mean '{near[0]}'?)", where=where, do=f"one of: {', '.join(FAMILIES)}"
        )
    return site


def site_of(record: Mapping[str, Any]) -> str | None:
    """The site of a post as an API or gallery-dl gives it; None where nothing tells."""
    category = record.get("category")
    if isinstance(category, str) and category in FAMILIES:
        return category
    family = _family(record)
    named = _by_host(record)
    if named and FAMILIES[named] == family:
        return named
    if family == "moebooru":  # konachan's answers lack these two
        return "yandere" if "updated_at" in record or "file_ext" in record else "konachan"
    return family


def is_of(record: Mapping[str, Any], site: str) -> bool:
    """Whether a post may be from `site`. Only what has clearly another site's shape is refused."""
    family = _family(record)
    return family is None or FAMILIES.get(site, family) == family


def post_at(address: str) -> tuple[str, str] | None:
    """Site and id of the post whose page an address is."""
    for site, page in PAGES.items():
        before, after = page.split("{}")
        plain = address.replace("http://", "https://", 1).replace("https://www.pixiv.net/en/", "https://www.pixiv.net/")
        if plain.startswith(before) and plain.endswith(after):
            identity = plain[len(before) :].split("?")[0].split("#")[0].split("&")[0].strip("/")
            if identity.isalnum():
                return site, identity
    return None


def _family(record: Mapping[str, Any]) -> str | None:
    tags = record.get("tags")
    if "illust_ai_type" in record or "x_restrict" in record or "create_date" in record:
        return "pixiv"
    if isinstance(record.get("file"), Mapping) and ("relationships" in record or isinstance(tags, Mapping)):
        return "e621"
    if "tag_names" in record or "total_score" in record or "redirect_to_signup" in record:
        return "sankaku"
    if isinstance(tags, list) and tags and isinstance(tags[0], Mapping):
        return "sankaku"
    if "jpeg_url" in record or "actual_preview_width" in record or "is_shown_in_index" in record:
        return "moebooru"
    if "directory" in record and "image" in record:
        return "gelbooru"
    if any(key.startswith("tag_string") for key in record) or "media_asset" in record:
        return "danbooru"
    return None


def _by_host(record: Mapping[str, Any]) -> str | None:
    file = record.get("file")
    urls = [record.get("file_url"), record.get("preview_url"), record.get("preview_file_url")]
    urls += [file.get("url")] if isinstance(file, Mapping) else []
    for url in urls:
        try:
            host = urlsplit(url).hostname if isinstance(url, str) else None
        except ValueError:
            continue
        for end, site in _HOSTS.items():
            if host and (host == end or host.endswith("." + end)):
                return site
    return None

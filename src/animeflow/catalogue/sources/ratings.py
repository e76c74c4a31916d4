"""What Danbooru's letter `s` meant when a dump was made. Knows dates and letters of posts; knows no file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .fields import iso_utc

CHANGED = "2022-01"
_DATES = ("created_at", "updated_at", "last_commented_at", "last_comment_bumped_at", "last_noted_at", "date")


def rated_before_2022(posts: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a dump is from before `g` came and `s` became sensitive: it has dates, none of them later, and no `g`.

    In doubt it is new: a safe picture taken for a sensitive one does less harm than the reverse.
    """
    newest = ""
    for post in posts:
        if "media_asset" in post or post.get("rating") in ("g", "general", "sensitive"):
            return False
        newest = max(newest, *(iso_utc(post.get(key)) or "" for key in _DATES))
        if newest >= CHANGED:
            return False
    return bool(newest)

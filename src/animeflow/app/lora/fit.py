"""Which of the pictures that were found are large enough for the sizes of a run. Knows sizes; opens nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ...core.errors import DataError
from ...image.bucket import Bucket
from ..wiring import bucket_plan
from .found import Dropped, Found

OPTIONS = ("max_upscale", "min_side", "max_crop")


def fitting(found: Found, config: Mapping[str, Any]) -> tuple[Found, dict[Bucket, int]]:
    """What is found with the pictures that no bucket takes among the dropped, and how many fall into each bucket.

    Raises:
        DataError: of a concept none is left.
    """
    from ...data.assign import select

    node = {key: config["data"]["shard"][key] for key in OPTIONS}
    posts = [seen.post(group.name) for group in found.groups for seen in group.pictures]
    kept, rejected = select(posts, bucket_plan(config), **node)
    refused = {each.path: each for each in rejected}
    small = tuple(
        Dropped(seen.path, refused[str(seen.path)].reason, refused[str(seen.path)].detail, seen.uid)
        for group in found.groups
        for seen in group.pictures
        if str(seen.path) in refused
    )
    groups = tuple(
        replace(group, pictures=tuple(seen for seen in group.pictures if str(seen.path) not in refused))
        for group in found.groups
    )
    for group, whole in zip(groups, found.groups, strict=True):
        if not group.pictures:
            raise DataError(
                f"none of the {len(whole.pictures)} pictures of {group.title} is large enough: {small[0].detail}",
                where=str(small[0].path),
                why="enlarged pictures teach blur",
                do="give larger ones, or allow more enlarging: data.shard.max_upscale=2 data.shard.min_side=64",
            )
    return replace(found, groups=groups, dropped=(*found.dropped, *small)), {b: len(part) for b, part in kept.items()}

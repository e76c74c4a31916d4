"""One picture at several sizes: posts at scales, and a bucket plan made smaller. Knows numbers and posts; knows no file.

A share of 0.5 halves both sides of every bucket. At scale 1 a picture is what it always is; at another it is a sample of its own,
with its own uid, in the same split, and an epoch shows each sample as often as any other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..catalogue.post import Post
from ..core.errors import ConfigError
from ..image.bucket import Bucket, BucketPlan

WHERE = "data.shard.scales"


@dataclass(frozen=True)
class Scaled(Post):
    """A picture at a scale: the post, with the uid of the sample."""

    scale: float = 1.0


def scaled_uid(uid: int, scale: float) -> int:
    """The identity of a picture at a scale, 63 bits like its own; at 1 it is its own."""
    if scale == 1.0:
        return uid
    digest = hashlib.blake2b(f"scale\x1f{uid}\x1f{scale!r}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def scale_of(post: Post) -> float:
    return post.scale if isinstance(post, Scaled) else 1.0


def at_scales(posts: Iterable[Post], scales: Sequence[float]) -> Iterator[Post]:
    """Every post once per scale; for `[1.0]` the posts themselves.

    Raises:
        ConfigError: a share is impossible or comes twice.
    """
    shares = _shares(scales)
    for post in posts:
        for share in shares:
            if share == 1.0:
                yield post
            else:
                yield Scaled(**{**post.as_dict(), "uid": scaled_uid(post.uid, share), "scale": share})


def scaled_plans(plan: BucketPlan, scales: Sequence[float], *, cell: int) -> dict[float, BucketPlan]:
    """Scale -> the plan at that scale, on a grid of `cell` pixels; the plan itself at 1.

    Raises:
        ConfigError: a share would send a picture into a bucket of another share.
    """
    plans = {1.0: plan} if 1.0 in scales else {}
    taken = {bucket: {1.0: bucket} for bucket in plan} if plans else {bucket: {} for bucket in plan}
    for share in sorted({*scales} - {1.0}, reverse=True):
        small = {bucket: _scaled(bucket, share, cell) for bucket in plan}
        for bucket, size in small.items():
            if size in taken[bucket].values():
                raise ConfigError(
                    f"a share of {share:g} leaves {bucket} at a size that it has already: {size}",
                    where=WHERE,
                    why=f"sides are multiples of {cell}",
                    do="take shares that lie further apart, or larger buckets",
                )
            taken[bucket][share] = size
        plans[share] = BucketPlan(small.values(), cell)
    return plans


def _shares(scales: Sequence[float]) -> list[float]:
    do = "choose numbers above 0 and up to 1, each once, such as [1.0, 0.75, 0.5]"
    if isinstance(scales, str) or not isinstance(scales, Sequence):
        raise ConfigError(f"{scales!r} is no list of shares", where=WHERE, do=do)
    for scale in scales:
        if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale <= 1:
            raise ConfigError(f"{scale!r} is no share of a side", where=WHERE, do=do)
    shares = sorted({float(scale) for scale in scales}, reverse=True)
    if len(shares) < max(len(scales), 1):
        raise ConfigError(f"{list(scales)} is empty or names a share twice", where=WHERE, do=do)
    return shares


def _scaled(bucket: Bucket, share: float, cell: int) -> Bucket:
    """The nearest size on the grid."""
    height, width = (max(cell, round(side * share / cell) * cell) for side in (bucket.height, bucket.width))
    return Bucket(height, width)

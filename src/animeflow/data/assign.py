"""Which picture goes into which shard: decided from posts and bucket plan alone, before anything is written. Knows no file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..catalogue.post import Post
from ..core import files
from ..core.errors import ConfigError
from ..image.bucket import Bucket, BucketPlan
from ..image.resize import plan_crop
from .manifest import Rejection
from .scales import Scaled, scale_of, scaled_plans

NAME = r"\d+x\d+-\d{5,}"


@dataclass(frozen=True)
class Assignment:
    """One shard before it exists: its bucket and its posts in order. `key` is the hash of all that decides its bytes."""

    bucket: Bucket
    number: int
    posts: tuple[Post, ...]
    key: str

    @property
    def name(self) -> str:
        return f"{self.bucket}-{self.number:05d}"

    @property
    def tar(self) -> str:
        """Path of the shard inside the folder of shards."""
        return f"{self.bucket}/{self.name}.tar"

    @property
    def side(self) -> str:
        """Path of its own index: key, offsets, hashes, rejections."""
        return f"{self.bucket}/{self.name}.index.json"


def facts_of(post: Post) -> dict[str, Any]:
    """What travels in the shard: everything the catalogue knows but where the file lies on this machine."""
    facts = post.as_dict()
    del facts["path"]
    return {**facts, "uid": f"{post.uid:016x}"}


def cropped(post: Post, bucket: Bucket) -> float:
    """Share of the resized picture's area that the crop to `bucket` cuts away."""
    crop = plan_crop(post.height, post.width, bucket)
    return 1 - bucket.height * bucket.width / (crop.resized_height * crop.resized_width)


def select(
    posts: Iterable[Post],
    plan: BucketPlan,
    *,
    max_upscale: float = 1.0,
    min_side: int = 0,
    max_crop: float = 1.0,
    cell: int = 16,
) -> tuple[dict[Bucket, list[Post]], list[Rejection]]:
    """Posts by bucket, sorted by uid, and those that are too small, would lose too much to the crop or come a second time.

    A post of `scales.at_scales` goes to a bucket of its scale; where its picture is used at another one, the reason says so.
    The options are those of `write_shards`. Raises ConfigError when `max_crop` is not a share.
    """
    posts = list(posts)
    plans = scaled_plans(plan, sorted({scale_of(post) for post in posts}), cell=cell)
    if not 0 <= max_crop <= 1:
        raise ConfigError(f"max_crop={max_crop} is not a share", where="data.shard.max_crop", do="choose 0 to 1")
    kept: dict[Bucket, list[Post]] = defaultdict(list)
    rejected: list[Rejection] = []
    seen: set[int] = set()
    for post in sorted(posts, key=lambda post: (post.uid, post.sha256)):
        bucket = plans[scale_of(post)].assign(post.height, post.width)
        enlarged = max(bucket.height / post.height, bucket.width / post.width)
        if post.uid in seen:
            rejected.append(Rejection(post.uid, post.path, "twice", "another post has the same uid"))
        elif min(post.height, post.width) < min_side:
            rejected.append(
                Rejection(post.uid, post.path, "too_small", f"{post.height}x{post.width}, shorter side < {min_side}")
            )
        elif enlarged > max_upscale * (1 + 1e-9):
            detail = f"{post.height}x{post.width} would be enlarged {enlarged:.2f} times for {bucket}"
            rejected.append(Rejection(post.uid, post.path, "too_small", detail))
        elif (lost := cropped(post, bucket)) > max_crop + 1e-9:
            detail = f"{post.height}x{post.width} would lose {lost:.0%} of its area to the crop for {bucket}"
            rejected.append(Rejection(post.uid, post.path, "too_cropped", detail))
        else:
            kept[bucket].append(post)
        seen.add(post.uid)
    return kept, _elsewhere(rejected, posts, kept)


def _elsewhere(rejected: list[Rejection], posts: list[Post], kept: Mapping[Bucket, list[Post]]) -> list[Rejection]:
    """The rejections, where those of a picture that is used at another scale are told from those of one that is not used at all."""
    if not any(isinstance(post, Scaled) for post in posts):
        return rejected
    used = {post.sha256 for part in kept.values() for post in part}
    partly = {post.uid for post in posts if post.sha256 in used}
    return [
        replace(each, reason=f"{each.reason}_for_scale") if each.uid in partly and each.reason != "twice" else each
        for each in rejected
    ]


def assign(
    kept: Mapping[Bucket, list[Post]], *, max_bytes: int, max_samples: int, settings: Mapping[str, Any]
) -> Iterator[Assignment]:
    """Cut each bucket into shards by count. `settings` are those that change the bytes of a sample.

    Raises:
        ConfigError: `max_bytes` cannot hold one picture.
    """
    for bucket, posts in sorted(kept.items()):
        # The most a sample can take: rows of RGB with a filter byte that do not compress, framing, tar headers and facts.
        sample_bytes = bucket.height * (bucket.width * 3 + 1) * 1.002 + 2**14
        count = min(max_samples, int(max_bytes // sample_bytes))
        if count < 1:
            raise ConfigError(
                f"a shard of {max_bytes} bytes cannot hold one picture of {bucket}",
                do=f"set max_bytes to {10 * sample_bytes:.0f}",
            )
        for number, start in enumerate(range(0, len(posts), count)):
            part = tuple(posts[start : start + count])
            key = files.address(settings=settings, bucket=str(bucket), posts=[facts_of(post) for post in part])
            yield Assignment(bucket, number, part, key)


def posts_hash(posts: Iterable[Post]) -> str:
    """One hash of all facts of all posts, in any order."""
    return files.address(posts=sorted(files.sha256(files.canonical(facts_of(post))) for post in posts))

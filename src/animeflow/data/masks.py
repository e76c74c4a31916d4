"""Masks on their way from files beside pictures to the cells of latents. Knows posts, shards and the cache's store; knows no text.

A mask says how much of every pixel of a picture counts. In a shard it lies beside its picture at the same size; in the cache its
mean over every latent cell lies under an address of its own, so that a mask that is painted over costs no latent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..catalogue.post import Post
from ..catalogue.walk import mask_of
from ..core import files
from ..core.errors import ConfigError, DataError
from ..image.mask import cells, decode_mask
from ..image.picture import BadPicture
from .ahead import ahead
from .assign import Assignment
from .manifest import key
from .prepare import mask_hash
from .reader import ShardSet
from .store import StoreWriter

FORMAT = "uint8 / 255; mean of every latent cell; bfloat16; v1"
"""What happens between the mask of a sample and its cached cells. Part of every address: another way, another entry."""

MODES = ("off", "auto")


def wanted(masks: str) -> bool:
    """Whether masks are looked for. Raises ConfigError for an unknown word."""
    if masks not in MODES:
        raise ConfigError(f"unknown value '{masks}'", where="data.shard.masks", do=f"choose one of: {', '.join(MODES)}")
    return masks == "auto"


# -- shards ------------------------------------------------------------------------------------------------------------


def masks_beside(posts: Iterable[Post], root: Path) -> dict[str, tuple[str, str]]:
    """Path of a post -> its mask file and the hash of it, for those that have one."""
    beside = {post.path: mask_of(root / post.path) for post in posts}
    return {path: (str(mask), files.sha256_file(mask)) for path, mask in beside.items() if mask}


def keyed(shard: Assignment, masks: Mapping[str, tuple[str, str]]) -> Assignment:
    """The shard, its key telling of the masks too: one that was painted over makes another shard."""
    hashes = {key(post.uid): masks[post.path][1] for post in shard.posts if post.path in masks}
    return replace(shard, key=files.address(key=shard.key, masks=hashes)) if hashes else shard


def account(sides: Iterable[Mapping[str, Any]], posts: Iterable[Post], written: int) -> dict[str, Any]:
    """Pictures by where their mask is from, and the paths of those whose mask shows nothing of them, out of the side indices."""
    origins = {uid: origin for side in sides for uid, origin in side.get("masks", {}).items()}
    counts = Counter(origins.values())
    found = {name: counts[name] for name in ("sidecar", "alpha")}
    empty = sorted({post.path for post in posts if origins.get(key(post.uid)) == "empty"})
    return {**found, "none": written - sum(found.values()), "empty": empty}


# -- cache -------------------------------------------------------------------------------------------------------------


def mask_address(mask: str, stride: int) -> str:
    """Address of the cells of the mask that hashes to `mask`, for latents of this stride."""
    return files.address(mask=mask, stride=stride, preprocessing=FORMAT)


def encode_masks(
    shards: ShardSet,
    uids: Sequence[int],
    writer: StoreWriter,
    *,
    stride: int,
    threads: int,
    advance: Callable[[int], None],
) -> int:
    """Write the cells `[1, h, w]` of the masks of `uids` into `writer`. Returns the bytes written.

    Raises:
        DataError: a shard is broken.
    """
    written = 0
    with ThreadPoolExecutor(threads) as pool:
        for uid, mask_1hw in ahead(pool, lambda uid: (uid, _cells(shards, uid, stride)), uids, count=4 * threads):
            written += writer.add(mask_address(shards.mask_of(uid) or "", stride), {"": mask_1hw})
            advance(1)
    return written


def _cells(shards: ShardSet, uid: int, stride: int) -> Tensor:
    try:
        mask = decode_mask(shards.mask(uid))
    except BadPicture as error:
        raise DataError(f"the mask of picture {key(uid)} cannot be read: {error}", where=str(shards.place)) from error
    if mask_hash(mask) != shards.mask_of(uid):
        raise DataError(f"the mask of picture {key(uid)} is another than was written", where=str(shards.place))
    return torch.from_numpy(cells(mask, stride))[None]

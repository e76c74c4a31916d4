"""Catalogue to WebDataset shards, bucket by bucket: nothing lost, nothing twice, the same bytes every time.

Shards are written into a staging folder and moved into place when all are whole; a shard that already is what it should be is
kept. So a run that is killed at any moment and started again ends in the same bytes as one that never was.
"""

from __future__ import annotations

import os
import re
import shutil
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from webdataset import TarWriter

from ..catalogue.post import Post
from ..core import files
from ..core.engine import Engine
from ..core.errors import DataError
from ..core.log import progress
from ..image.bucket import Bucket, BucketPlan
from ..image.picture import Limits
from .assign import NAME, Assignment, assign, facts_of, posts_hash, select
from .manifest import (
    FACTS,
    INDEX,
    MANIFEST,
    MASK,
    PICTURE,
    Manifest,
    Rejection,
    SampleRow,
    key,
    samples_hash,
    write_index,
)
from .masks import account, keyed, masks_beside, wanted
from .prepare import ABOUT_THE_DISK, VERSION, Prepared, Task, in_order, is_there, prepare
from .scales import at_scales

STAGING = ".staging"
_OURS = re.compile(NAME + r"\.(tar|index\.json)")


def write_shards(
    posts: Iterable[Post],
    plan: BucketPlan,
    out: Path,
    *,
    root: Path | None = None,
    background: tuple[int, int, int] = (255, 255, 255),
    max_bytes: int = 256 * 2**20,
    max_samples: int = 2048,
    max_upscale: float = 1.0,
    min_side: int = 0,
    max_crop: float = 1.0,
    scales: Sequence[float] = (1.0,),
    cell: int = 16,
    masks: str = "off",
    limits: Limits | None = None,
    workers: int = 0,
    engine: Engine | None = None,
    config: Mapping[str, Any] | None = None,
) -> Manifest:
    """Write every post into exactly one shard under `out`, or name it among the rejected.

    Args:
        plan: assigns a bucket to every picture size.
        root: folder that relative `post.path` start from.
        background: RGB that transparent pixels are laid over.
        max_bytes: shards are cut so that none is larger even if no pixel can be compressed.
        max_samples: nor does any hold more samples.
        max_upscale: pictures that would have to be enlarged more than this are rejected as `too_small`.
        min_side: pictures whose shorter side has fewer pixels are rejected as `too_small`.
        max_crop: pictures that would lose a larger share of their resized area to the crop are rejected as `too_cropped`.
        scales: shares of the sides of `plan` at which every picture is written, each a sample of its own, and counted as one.
        cell: pixels of which the sides of smaller buckets are multiples.
        masks: "auto" writes beside each picture how much of it counts, where a file says so (`walk.mask_of`) or it is transparent;
            a mask of another shape than its picture is rejected with it.
        limits: of the decoder; those under which the pictures were catalogued.
        workers: processes that decode; 0 decodes in this one. engine: who decodes instead of these.
        config: recorded in the manifest beside these settings.
    Raises:
        ConfigError: a setting is impossible.
        DataError: no picture could be used, or a worker died. What is finished stays for the next run.
    """
    out, limits, posts = Path(out), limits or Limits(), list(at_scales(posts, scales))
    decisive = {"background": list(background), "limits": asdict(limits), "version": VERSION}
    kept, rejected = select(posts, plan, max_upscale=max_upscale, min_side=min_side, max_crop=max_crop, cell=cell)
    found = masks_beside(posts, Path(root or ".")) if wanted(masks) else None
    if found is not None:
        decisive["masks"] = masks
    shards = _cut(kept, found, max_bytes=max_bytes, max_samples=max_samples, settings=decisive)
    task = _tasks(Path(root or "."), background, limits, found)
    sides = _build(shards, out, task, engine or Engine(workers=workers))
    settings = {**decisive, "max_bytes": max_bytes, "max_samples": max_samples,
                "max_upscale": max_upscale, "min_side": min_side, "max_crop": max_crop,
                "buckets": [str(b) for b in plan.buckets],
                **({"scales": list(scales)} if list(scales) != [1.0] else {})}  # fmt: skip
    manifest, rows = _account(posts, rejected, shards, sides, out, with_masks=found is not None)
    return _commit(out, shards, replace(manifest, config={**(config or {}), "shard": settings}), rows)


def _cut(
    kept: Mapping[Bucket, list[Post]],
    found: Mapping[str, tuple[str, str]] | None,
    *,
    max_bytes: int,
    max_samples: int,
    settings: Mapping[str, Any],
) -> list[Assignment]:
    """The shards there will be, with room in each for the masks of its pictures; `found` is none where masks are off."""
    room = max_bytes if found is None else max_bytes * 3 // 4  # a mask takes a third of what its picture does, at most
    shards = assign(kept, max_bytes=room, max_samples=max_samples, settings=settings)
    return [keyed(shard, found or {}) for shard in shards]


def _tasks(
    root: Path, background: tuple[int, int, int], limits: Limits, found: Mapping[str, tuple[str, str]] | None
) -> Callable[[Assignment, Post], Task]:
    """What is to be done with a post of a shard."""
    red, green, blue = background

    def task(shard: Assignment, post: Post) -> Task:
        about = (shard.bucket, (red, green, blue), limits, facts_of(post))
        mask = (found or {}).get(post.path)
        return Task(post.uid, post.sha256, str(root / post.path), *about, masks=found is not None, mask=mask)

    return task


def _account(
    posts: list[Post],
    rejected: list[Rejection],
    shards: list[Assignment],
    sides: list[dict[str, Any]],
    out: Path,
    *,
    with_masks: bool,
) -> tuple[Manifest, list[SampleRow]]:
    """What became of every post, by the side indices: a manifest without settings, and the rows of the index."""
    rejected = rejected + [Rejection(**row) for side in sides for row in side["rejected"]]
    rows = [SampleRow(**row) for side in sides for row in side["samples"]]
    _check_conservation(posts, rows, rejected, out)
    manifest = Manifest(
        found=len(posts),
        written=len(rows),
        rejected=sorted(rejected, key=lambda r: (r.uid, r.reason)),
        buckets=_by_bucket(shards, sides),
        shards=[{"name": shard.tar, **side["tar"]} for shard, side in zip(shards, sides) if side["tar"]],
        posts=posts_hash(posts),
        samples=samples_hash(rows),
        config={},
        masks=account(sides, posts, len(rows)) if with_masks else {},
    )
    return manifest, rows


def _check_conservation(posts: list[Post], rows: list[SampleRow], rejected: list[Rejection], out: Path) -> None:
    if len(rows) + len(rejected) != len(posts):
        raise DataError(
            f"{len(posts)} pictures went in, {len(rows)} written and {len(rejected)} rejected came out",
            where=str(out), do="delete the folder and run 'shard' again",
        )  # fmt: skip
    if not posts:
        raise DataError(
            "there is no picture to write", where=str(out), do="run 'catalogue' first, or loosen the filter"
        )
    if not rows:
        first = rejected[0]
        raise DataError(
            f"none of {len(posts)} pictures could be used; the first: {first.reason}, {first.detail}",
            where=first.path, do="check the picture root, the bucket plan, max_upscale and max_crop",
        )  # fmt: skip


def _by_bucket(shards: list[Assignment], sides: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    buckets: dict[str, dict[str, int]] = {}
    for shard, side in zip(shards, sides):
        if side["tar"]:
            row = buckets.setdefault(str(shard.bucket), {"samples": 0, "shards": 0, "bytes": 0})
            row["samples"] += side["tar"]["samples"]
            row["shards"] += 1
            row["bytes"] += side["tar"]["bytes"]
    return buckets


# -- building ----------------------------------------------------------------------------------------------------------


def _build(
    shards: list[Assignment], out: Path, task: Callable[[Assignment, Post], Task], engine: Engine
) -> list[dict[str, Any]]:
    """Make every shard whole, in place or in staging. Returns their side indices, in order."""
    sides = [_finished(shard, out, task) for shard in shards]
    todo = [shard for shard, side in zip(shards, sides) if side is None]
    results = in_order(prepare, (task(shard, post) for shard in todo for post in shard.posts), engine=engine)
    with progress("shard", sum(len(shard.posts) for shard in shards)) as advance:
        for i, shard in enumerate(shards):
            if sides[i] is None:
                sides[i] = _write(shard, out / STAGING, (_told(next(results), advance) for _ in shard.posts))
            else:
                advance(len(shard.posts))
    return [side for side in sides if side is not None]


def _told(result: Prepared | Rejection, advance: Callable[[int], None]) -> Prepared | Rejection:
    advance(1)
    return result


def _finished(shard: Assignment, out: Path, task: Callable[[Assignment, Post], Task]) -> dict[str, Any] | None:
    """The side index of a shard that already is what it should be, byte for byte, in place or in staging; none for a shard that
    lacks a picture whose file was not there then and is there now."""
    for folder in (out, out / STAGING):
        side, tar = folder / shard.side, folder / shard.tar
        if not side.is_file():
            continue
        try:
            value = files.read_json(side)
            if value["key"] == shard.key and _is_whole(tar, value["tar"]):
                away = {row["uid"] for row in value["rejected"] if row["reason"] in ABOUT_THE_DISK}
                back = away and any(is_there(task(shard, post)) for post in shard.posts if post.uid in away)
                return None if back else value
        except (ValueError, KeyError, TypeError):
            continue  # a side index of something else: the shard is written again
    return None


def _is_whole(tar: Path, facts: Mapping[str, Any] | None) -> bool:
    if facts is None:
        return True  # every picture of this shard was rejected
    return tar.is_file() and tar.stat().st_size == facts["bytes"] and files.sha256_file(tar) == facts["sha256"]


def _write(shard: Assignment, folder: Path, results: Iterator[Prepared | Rejection]) -> dict[str, Any]:
    """One shard and its side index, each whole or absent. The tar comes first, so a side index vouches for it."""
    prepared: dict[int, Prepared] = {}
    rejected: list[Rejection] = []
    tar = folder / shard.tar
    with files.atomic_path(tar) as temporary:
        with open(temporary, "wb") as stream, TarWriter(stream, user="animeflow", group="animeflow", mtime=0) as writer:
            for result in results:
                if isinstance(result, Rejection):
                    rejected.append(result)
                else:
                    members = {PICTURE: result.png, FACTS: result.facts, **({MASK: result.mask} if result.mask else {})}
                    writer.write({"__key__": key(result.uid), **members})
                    prepared[result.uid] = replace(result, png=b"", facts=b"", mask=None)  # what they hash to is enough
        splits = {post.uid: post.split for post in shard.posts}
        rows = list(scan(temporary, shard, prepared, splits))
        facts = {"bytes": temporary.stat().st_size, "sha256": files.sha256_file(temporary), "samples": len(rows)}
    side: dict[str, Any] = {
        "key": shard.key,
        "tar": facts if rows else None,
        "samples": [row.as_json() for row in rows],
        "rejected": [asdict(rejection) for rejection in rejected],
    }
    if origins := {key(uid): each.mask_from for uid, each in prepared.items() if each.mask_from}:
        side["masks"] = origins
    if not rows:
        tar.unlink()
    files.write_json(folder / shard.side, side)
    return side


def scan(
    tar: Path, shard: Assignment, prepared: Mapping[int, Prepared], splits: Mapping[int, str]
) -> Iterator[SampleRow]:
    """Byte ranges and hashes of the samples of a tar, read back from the file itself."""
    members: dict[str, dict[str, tarfile.TarInfo]] = {}
    with tarfile.open(tar, "r:") as archive, open(tar, "rb") as file:
        for member in archive:
            name, _, extension = member.name.partition(".")
            members.setdefault(name, {})[extension] = member

        def payload(member: tarfile.TarInfo) -> tuple[int, int, str]:
            file.seek(member.offset_data)
            return member.offset_data, member.size, files.sha256(file.read(member.size))

        for name, parts in members.items():
            uid = int(name, 16)
            start = min(member.offset for member in parts.values())
            end = max(member.offset_data + -(-member.size // 512) * 512 for member in parts.values())
            where = (uid, str(shard.bucket), shard.tar, splits[uid], start, end - start)
            row = SampleRow(*where, *payload(parts[PICTURE]), *payload(parts[FACTS]), prepared[uid].pixels)
            if MASK in parts:
                offset, size, sha256 = payload(parts[MASK])
                mask = prepared[uid].mask_hash
                row = replace(row, mask_offset=offset, mask_size=size, mask_sha256=sha256, mask=mask)
            yield row


# -- commit ------------------------------------------------------------------------------------------------------------


def _commit(out: Path, shards: list[Assignment], manifest: Manifest, rows: list[SampleRow]) -> Manifest:
    """Move staged shards into place, write index and manifest, and only then delete what no longer belongs here."""
    for shard in shards:
        for name in (shard.tar, shard.side):
            if (out / STAGING / name).is_file():
                (out / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(out / STAGING / name, out / name)
    for folder in {(out / shard.tar).parent for shard in shards if (out / shard.tar).parent.is_dir()}:
        files.sync(folder)
    write_index(out / INDEX, rows)
    index = {"name": INDEX, "bytes": (out / INDEX).stat().st_size, "sha256": files.sha256_file(out / INDEX)}
    manifest = Manifest(**{**vars(manifest), "index": index})
    files.write_json(out / MANIFEST, manifest.to_json())
    _sweep(out, keep={shard["name"] for shard in manifest.shards} | {shard.side for shard in shards})
    return manifest


def _sweep(out: Path, keep: set[str]) -> None:
    """Delete shards of an earlier config, staging, and what a killed run left half-written. Touches no file of another name."""
    shutil.rmtree(out / STAGING, ignore_errors=True)
    for path in out.glob("*/*"):
        if _OURS.fullmatch(path.name) and path.relative_to(out).as_posix() not in keep:
            path.unlink()
    for path in out.glob(".*.tmp"):
        path.unlink(missing_ok=True)
    for folder in out.iterdir():
        if folder.is_dir() and re.fullmatch(r"\d+x\d+", folder.name) and not any(folder.iterdir()):
            folder.rmdir()

"""From a picture file to the bytes of its sample. Runs in worker processes. Knows one picture; knows no shard."""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..catalogue.reading import read_file
from ..core import files
from ..core.engine import Engine
from ..core.errors import DataError
from ..image.bucket import Bucket
from ..image.decode import decode
from ..image.encode import encode_png
from ..image.mask import Mask, cut_mask, encode_mask, read_mask
from ..image.picture import BadPicture, Limits, Picture
from ..image.resize import fit
from .ahead import In, Out, ahead
from .manifest import Rejection

VERSION = 1
"""Raise it when the same file and bucket would give other pixels or facts: every shard is then written anew."""

ABOUT_THE_DISK = frozenset({"missing_file", "changed_file"})
"""Reasons that say nothing of the picture: another time its file may be there."""


@dataclass(frozen=True)
class Task:
    """One picture to prepare. `facts` travel into the sample's JSON. With `masks` its mask is prepared too: out of the file `mask`
    (path and sha256) where it has one, else out of its own transparency."""

    uid: int
    sha256: str
    path: str
    bucket: Bucket
    background: tuple[int, int, int]
    limits: Limits
    facts: Mapping[str, Any]
    masks: bool = False
    mask: tuple[str, str] | None = None


@dataclass(frozen=True)
class Prepared:
    """Payloads of the members of a sample, and the hash of its pixels; and where its mask is from: "sidecar", "alpha", "empty" for
    one that shows nothing of the picture, nothing where all of it counts."""

    uid: int
    png: bytes
    facts: bytes
    pixels: str
    mask: bytes | None = None
    mask_hash: str = ""
    mask_from: str = ""


def prepare(task: Task) -> Prepared | Rejection:
    """Read, check, decode, fit and encode one picture. What cannot be used comes back as a Rejection, never as an error."""
    try:
        data = read_file(task.path)
    except OSError as error:
        return Rejection(task.uid, task.path, "missing_file", str(error.strerror))
    if hashlib.sha256(data).hexdigest() != task.sha256:
        return Rejection(task.uid, task.path, "changed_file", "the file is not the one that the catalogue saw")
    try:
        picture = decode(data, background=task.background, limits=task.limits)
    except BadPicture as error:
        return Rejection(task.uid, task.path, error.reason, error.detail)
    pixels, crop = fit(picture.pixels, task.bucket, max_upscale=math.inf)  # too small ones never came here
    facts = {**task.facts, "bucket": str(task.bucket), "crop": asdict(crop), "pixels": pixels_hash(pixels)}
    if not task.masks:
        return Prepared(task.uid, encode_png(pixels), files.canonical(facts), facts["pixels"])
    try:
        whole, origin = _mask(task, picture)
    except BadPicture as error:
        return Rejection(task.uid, task.path, error.reason, error.detail)
    mask = None if whole is None else cut_mask(whole, crop, height=task.bucket.height, width=task.bucket.width)
    if mask is None or mask.min() == 255:  # all of it counts
        return Prepared(task.uid, encode_png(pixels), files.canonical(facts), facts["pixels"])
    if not mask.any():
        return Prepared(task.uid, encode_png(pixels), files.canonical(facts), facts["pixels"], mask_from="empty")
    facts["mask"] = {"from": origin, "share": round(float(mask.mean()) / 255, 4)}
    return Prepared(
        task.uid, encode_png(pixels), files.canonical(facts), facts["pixels"],
        mask=encode_mask(mask), mask_hash=mask_hash(mask), mask_from=origin,
    )  # fmt: skip


def is_there(task: Task) -> bool:
    """Whether the file of a picture is the one that the catalogue saw."""
    try:
        return hashlib.sha256(read_file(task.path)).hexdigest() == task.sha256
    except OSError:
        return False


def _mask(task: Task, picture: Picture) -> tuple[Mask | None, str]:
    """Of the whole picture, and where it is from. Raises BadPicture for a mask that does not fit: to train on the picture without
    it would be another thing than was asked for."""
    if task.mask is None:
        return picture.alpha, "alpha"
    path, sha256 = task.mask
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise BadPicture("mask_unreadable", f"{path}: {error.strerror}") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise BadPicture("mask_unreadable", f"{path} changed while it was read")
    height, width = picture.pixels.shape[:2]
    try:
        return read_mask(data, height=height, width=width, limits=task.limits), "sidecar"
    except BadPicture as error:
        raise BadPicture(error.reason, f"{path}: {error.detail}") from error


def pixels_hash(pixels: np.ndarray) -> str:
    """sha256 of a picture uint8 `[H, W, 3]`: its size, then its bytes. Independent of any file format."""
    height, width, _ = pixels.shape
    return hashlib.sha256(struct.pack("<II", height, width) + np.ascontiguousarray(pixels).tobytes()).hexdigest()


def mask_hash(mask_HW: Mask) -> str:
    """sha256 of a mask uint8 `[H, W]`: its size, then its bytes."""
    height, width = mask_HW.shape
    return hashlib.sha256(struct.pack("<II", height, width) + np.ascontiguousarray(mask_HW).tobytes()).hexdigest()


def in_order(function: Callable[[In], Out], items: Iterable[In], *, engine: Engine) -> Iterator[Out]:
    """`map(function, items)` by an engine, a bounded number ahead of the reader, results in order."""
    if engine.in_process:
        yield from map(function, items)
        return
    with engine.executor() as pool:
        try:
            yield from ahead(pool, function, items, count=8 * engine.width())
        except BrokenProcessPool as error:
            raise DataError(
                "a worker process died while it prepared pictures",
                why="most often the machine ran out of memory",
                do="use fewer workers, or lower the picture limits; finished shards are kept",
            ) from error

"""From a picture file to the bytes of its sample. Runs in worker processes. Knows one picture; knows no shard."""

from __future__ import annotations

import hashlib
import math
import os
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Any

import numpy as np

from ..core import files
from ..core.errors import DataError
from ..image.bucket import Bucket
from ..image.decode import decode
from ..image.encode import encode_png
from ..image.picture import BadPicture, Limits
from ..image.resize import fit
from .ahead import In, Out, ahead
from .manifest import Rejection

VERSION = 1
"""Raise it when the same file and bucket would give other pixels or facts: every shard is then written anew."""


@dataclass(frozen=True)
class Task:
    """One picture to prepare. `facts` travel into the sample's JSON."""

    uid: int
    sha256: str
    path: str
    bucket: Bucket
    background: tuple[int, int, int]
    limits: Limits
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Prepared:
    """Payloads of both members of a sample, and the hash of its pixels."""

    uid: int
    png: bytes
    facts: bytes
    pixels: str


def prepare(task: Task) -> Prepared | Rejection:
    """Read, check, decode, fit and encode one picture. What cannot be used comes back as a Rejection, never as an error."""
    try:
        data = Path(task.path).read_bytes()
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
    return Prepared(task.uid, encode_png(pixels), files.canonical(facts), facts["pixels"])


def pixels_hash(pixels: np.ndarray) -> str:
    """sha256 of a picture uint8 `[H, W, 3]`: its size, then its bytes. Independent of any file format."""
    height, width, _ = pixels.shape
    return hashlib.sha256(struct.pack("<II", height, width) + np.ascontiguousarray(pixels).tobytes()).hexdigest()


def in_order(function: Callable[[In], Out], items: Iterable[In], *, workers: int) -> Iterator[Out]:
    """`map(function, items)` in spawned processes (0: in this one), a bounded number ahead of the reader, results in order."""
    if workers <= 0:
        yield from map(function, items)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_leave_with_parent) as pool:
        try:
            yield from ahead(pool, function, items, count=8 * workers)
        except BrokenProcessPool as error:
            raise DataError(
                "a worker process died while it prepared pictures",
                why="most often the machine ran out of memory",
                do="use fewer workers, or lower the picture limits; finished shards are kept",
            ) from error


def _leave_with_parent() -> None:
    """End this worker when its parent is killed; a pool's workers would otherwise wait for work for ever."""
    os.environ["OMP_NUM_THREADS"] = "1"
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

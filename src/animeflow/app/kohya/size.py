"""Resolution and buckets of kohya's data sets as a bucket plan of ours. Knows numbers only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .book import Book, plain
from .pictures import Subset

ASPECT = 4.0  # beyond it pictures lose their middle to a strip


def pixels(value: Any) -> tuple[int, int] | None:
    """`(width, height)` of `1024`, `[832, 1216]`, `"832,1216"` or `"1024"`; None for anything else."""
    parts = (
        value.replace("x", ",").split(",") if isinstance(value, str) else value if isinstance(value, list) else [value]
    )
    try:
        sides = [int(str(part).strip()) for part in parts]
    except ValueError:
        return None
    if len(sides) not in (1, 2) or min(sides) < 1:
        return None
    return sides[0], sides[-1]


def buckets(book: Book, subsets: Sequence[Subset], *, cell: int) -> None:
    """The size of pictures, and which shapes they may have."""
    key = (
        "resolution"
        if any("resolution" in each.told for each in subsets) or book.has("resolution")
        else "max_resolution"
    )
    told = [each.get(key, book.get(key)) for each in subsets] or [book.get(key)]
    sizes = {pixels(value) for value in told if value is not None}
    if not sizes:
        book.warn(key, "no resolution is told: the experiment's own is kept")
        return
    if None in sizes:
        book.error(key, f"{[value for value in told if value is not None]} is no size", said=key)
        return
    areas = sorted({width * height for width, height in filter(None, sizes)})
    width, height = max(filter(None, sizes), key=lambda size: size[0] * size[1])
    said = f"{key} = {width if width == height else f'[{width}, {height}]'}"
    if _on(book, subsets, "enable_bucket"):
        _area(book, subsets, width * height, said=said, cell=cell)
    else:
        height, width = (max(cell, side // cell * cell) for side in (height, width))
        book.set(
            "data/bucket",
            "toonworld",
            of="enable_bucket",
            said="enable_bucket = false",
            why="sizes are named one by one",
        )
        book.set(
            "data.bucket.sizes",
            [f"{height}x{width}"],
            of=key,
            said=said,
            why="height x width; others are cropped to it",
        )
        book.set("data.bucket.step", cell, of=key, said=said)
    if len(areas) > 1:
        scales = [round(math.sqrt(area / areas[-1]), 4) for area in reversed(areas)]
        book.set("data.shard.scales", scales, of=key, said=f"{len(areas)} resolutions",
                 why="every picture at each, as in kohya's data sets of the same folder")  # fmt: skip
    _upscale(book, subsets)


def _area(book: Book, subsets: Sequence[Subset], area: int, *, said: str, cell: int) -> None:
    book.set("data/bucket", "pixels", of="enable_bucket", said="enable_bucket = true")
    book.set("data.bucket.budget", area, of="resolution", said=said, why="pixels of a picture, in whatever shape")
    step = int(_value(book, subsets, "bucket_reso_steps", 64))
    fitting = -(-step // cell) * cell
    told = f"bucket_reso_steps = {step}"
    why = "" if fitting == step else f"a multiple of {cell}, the pixels of a token"
    book.set("data.bucket.step", fitting, of="bucket_reso_steps", said=told, why=why)
    low, high = (
        int(_value(book, subsets, key, default))
        for key, default in (("min_bucket_reso", 256), ("max_bucket_reso", 1024))
    )
    aspect = max(1.0, min(ASPECT, high / max(1, low)))
    book.set("data.bucket.max_aspect", plain(round(aspect, 4)), of="max_bucket_reso",
             said=f"min_bucket_reso = {low}, max_bucket_reso = {high}",
             why="longest beside shortest side; every size here has the full area")  # fmt: skip
    book.read.add("min_bucket_reso")


def _upscale(book: Book, subsets: Sequence[Subset]) -> None:
    """kohya refuses no picture for its size."""
    if _on(book, subsets, "bucket_no_upscale"):
        book.warn("bucket_no_upscale", "small pictures have no smaller bucket here: those that would have to grow are listed as "
                  "too_small (data.shard.max_upscale=1.0)", said="bucket_no_upscale = true")  # fmt: skip
        book.set("data.shard.max_upscale", 1.0, of="bucket_no_upscale", said="bucket_no_upscale = true")
    else:
        book.set(
            "data.shard.max_upscale",
            8.0,
            of="bucket_no_upscale",
            said="bucket_no_upscale = false",
            why="small pictures are enlarged",
        )
    book.set("data.shard.min_side", 0, of="bucket_no_upscale", said="kohya refuses no picture for its size")
    book.set("data.shard.max_crop", 1.0, of="bucket_no_upscale", said="kohya refuses no picture for its shape")


def batch_size(book: Book, subsets: Sequence[Subset]) -> int:
    """Of a data set, which goes before the run's."""
    told = sorted({int(each.get("batch_size", book.get("train_batch_size", 1))) for each in subsets})
    if len(told) > 1:
        book.warn(
            "batch_size",
            f"one batch for all pictures here, and the data sets have {told}: the largest was taken",
            said="batch_size",
        )
    return told[-1] if told else int(book.number("train_batch_size", 1) or 1)


def _value(book: Book, subsets: Sequence[Subset], key: str, default: float) -> float:
    found = [value for value in (each.get(key) for each in subsets) if value is not None]
    return float(found[0]) if found else float(book.number(key, default) or default)


def _on(book: Book, subsets: Sequence[Subset], key: str) -> bool:
    found = [bool(value) for value in (each.get(key) for each in subsets) if value is not None]
    return any(found) if found else book.yes(key)

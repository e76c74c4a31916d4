"""One resize and one crop from a picture to its bucket. Knows pixels and buckets; knows no file."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import cv2
import numpy as np

from .bucket import Bucket
from .picture import BadPicture, Pixels


@dataclass(frozen=True)
class Crop:
    """How a bucket's pixels were cut: the source was resized to (resized_height, resized_width), then cut at (top, left)."""

    source_height: int
    source_width: int
    resized_height: int
    resized_width: int
    top: int
    left: int

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


def plan_crop(height: int, width: int, bucket: Bucket) -> Crop:
    """The smallest size with the source's aspect ratio that covers the bucket, and the centre crop of it."""
    scale = max(bucket.height / height, bucket.width / width)
    resized_height = max(bucket.height, round(height * scale))
    resized_width = max(bucket.width, round(width * scale))
    top, left = (resized_height - bucket.height) // 2, (resized_width - bucket.width) // 2
    return Crop(height, width, resized_height, resized_width, top, left)


def fit(pixels: Pixels, bucket: Bucket, *, max_upscale: float = 1.0) -> tuple[Pixels, Crop]:
    """`[H, W, 3]` to `[bucket.height, bucket.width, 3]`: one INTER_AREA resize, one centre crop.

    A picture that already covers the bucket exactly is cut without resampling, and one of the same size is returned untouched.
    Raises BadPicture("too_small") when the picture would have to grow by more than `max_upscale`.
    """
    height, width = pixels.shape[:2]
    scale = max(bucket.height / height, bucket.width / width)
    if scale > max_upscale * (1 + 1e-9):
        raise BadPicture(
            "too_small", f"{width}x{height} would have to grow {scale:.2f} times to fill {bucket.width}x{bucket.height}"
        )
    crop = plan_crop(height, width, bucket)
    return cut(pixels, crop, height=bucket.height, width=bucket.width), crop


def cut(pixels: Pixels, crop: Crop, *, height: int, width: int) -> Pixels:
    """What `crop` says, done to `[H, W, 3]`, or to `[H, W]` that has to stay beside it."""
    if (crop.resized_height, crop.resized_width) != pixels.shape[:2]:
        pixels = cv2.resize(pixels, (crop.resized_width, crop.resized_height), interpolation=cv2.INTER_AREA)
    if pixels.shape[:2] == (height, width):
        return pixels
    return np.ascontiguousarray(pixels[crop.top : crop.top + height, crop.left : crop.left + width])

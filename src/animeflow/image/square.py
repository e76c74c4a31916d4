"""A whole picture in a square, for networks that want one: shrunk by area, never stretched, the rest filled. Knows pixels."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from .picture import Pixels


def square(pixels: Pixels, side: int, *, fill: int = 255) -> Pixels:
    """uint8 RGB `[H, W, 3]` -> `[side, side, 3]`, the picture in the middle."""
    height, width = pixels.shape[:2]
    top, left, h, w = _inside(height, width, side)
    scale = side / max(height, width)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    inside = pixels if scale == 1 else cv2.resize(pixels, (w, h), interpolation=how)
    framed = np.full((side, side, 3), fill, np.uint8)
    framed[top : top + h, left : left + w] = inside
    return framed


def unsquare(values: NDArray[np.uint8], *, height: int, width: int) -> NDArray[np.uint8]:
    """What a network says of the pixels of a square, uint8 `[side, side]`, for the picture of `height` x `width` in it."""
    top, left, h, w = _inside(height, width, values.shape[0])
    inside = np.ascontiguousarray(values[top : top + h, left : left + w])
    how = cv2.INTER_AREA if height < h else cv2.INTER_LINEAR
    if inside.shape == (height, width):
        return inside
    return cv2.resize(inside, (width, height), interpolation=how).astype(np.uint8, copy=False)


def _inside(height: int, width: int, side: int) -> tuple[int, int, int, int]:
    """Top, left, height and width of a picture in the square."""
    scale = side / max(height, width)
    h, w = max(1, round(height * scale)), max(1, round(width * scale))
    return (side - h) // 2, (side - w) // 2, h, w

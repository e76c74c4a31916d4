"""Pieces of a picture in the size that they have, spread over it. Knows pixels alone."""

from __future__ import annotations

import numpy as np

from ..image.picture import Pixels

PATCH = 64  # pixels a side


def spread(pixels: Pixels, count: int, *, side: int = PATCH) -> list[Pixels]:
    """`count` patches on a grid over the picture, rounded up to a whole square of them."""
    across = int(np.ceil(np.sqrt(count)))
    places = np.linspace(0, 1, across) if across != 1 else [0.5]
    return [cut(pixels, y, x, side=side) for y in places for x in places]


def cut(pixels: Pixels, y: float, x: float, *, side: int = PATCH) -> Pixels:
    """A patch at a place in [0, 1]; a picture that is smaller is continued by its mirror."""
    height, width = pixels.shape[:2]
    if height < side or width < side:
        pixels = np.pad(pixels, ((0, max(0, side - height)), (0, max(0, side - width)), (0, 0)), mode="symmetric")
        height, width = pixels.shape[:2]
    top, left = int(y * (height - side)), int(x * (width - side))
    return pixels[top : top + side, left : left + side]

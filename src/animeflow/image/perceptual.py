"""Perceptual hashes: 64 signs of low frequencies, and where the content of a picture lies. Knows small pictures."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.uint8]  # [H, W]
Box = tuple[int, int, int, int]  # left, top, right, bottom; right and bottom are outside

OPAQUE = 24  # alpha below this is seen as nothing
PAPER = 14  # levels by which paper may vary (JPEG)
BORDER_SHARE = 0.92  # of the rim must be paper before it is trimmed


def shrunk(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """`[H, W]` or `[H, W, 3]` with its longer side at most `side`: the mean of what falls into each pixel."""
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return pixels
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def content_box(pixels: NDArray[np.uint8], alpha: Grey | None) -> Box:
    """What is not transparent, or not the paper of one colour that surrounds it; the whole picture where that is nothing."""
    height, width = pixels.shape[:2]
    if alpha is not None and bool((alpha < OPAQUE).any()):
        inside = alpha >= OPAQUE
    else:
        rim = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]).astype(np.int16)
        paper = np.median(rim, axis=0).astype(np.int16)
        if (np.abs(rim - paper).max(1) <= PAPER).mean() < BORDER_SHARE:
            return 0, 0, width, height
        inside = np.abs(pixels.astype(np.int16) - paper).max(2) > 2 * PAPER
    columns, rows = np.flatnonzero(inside.any(0)), np.flatnonzero(inside.any(1))
    if not len(columns):
        return 0, 0, width, height
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def phash(grey: Grey) -> int:
    """64 bits: which of the first 64 frequencies after the mean lie over their median."""
    small = cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    rows, columns = zigzag(64)
    low = cv2.dct(small)[rows, columns]
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes(), "big")


@lru_cache(maxsize=1)
def odd_columns() -> int:
    """The bits of `zigzag(64)` whose frequency across is odd: a mirrored picture has these cosines with the other sign, as
    cos(pi v (2 (n - 1 - x) + 1) / 2n) = (-1)^v cos(pi v (2 x + 1) / 2n)."""
    _, columns = zigzag(64)
    return int.from_bytes(np.packbits(columns % 2 == 1).tobytes(), "big")


@lru_cache(maxsize=8)
def zigzag(count: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of the first `count` frequencies after the mean, lowest first."""
    order = sorted(((u, v) for u in range(32) for v in range(32) if u + v), key=lambda uv: (uv[0] + uv[1], uv))[:count]
    return np.array([u for u, _ in order]), np.array([v for _, v in order])

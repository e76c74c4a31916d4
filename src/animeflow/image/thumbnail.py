"""Small previews for pages: the one place where a picture may lose something. Knows pixels and WebP; knows no data set.

Nothing here is ever trained on, measured or exported: full pictures stay lossless beside the page.
"""

from __future__ import annotations

import cv2

from .picture import Pixels


def thumbnail(pixels: Pixels, *, side: int = 192, quality: int = 88) -> bytes:
    """WebP of uint8 RGB `[H, W, 3]`, shrunk until its longer side is at most `side`; never enlarged."""
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    done, data = cv2.imencode(".webp", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, quality])
    if not done:
        raise ValueError(f"a picture of {list(pixels.shape)} could not be written as WebP")
    return data.tobytes()

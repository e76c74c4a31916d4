"""Pixels to bytes, without loss. Knows PNG; data never passes through a lossy encoder."""

from __future__ import annotations

import cv2
import numpy as np

from .picture import Pixels


def encode_png(pixels: Pixels, *, compression: int = 3) -> bytes:
    """Lossless PNG of uint8 RGB `[H, W, 3]`; `compression` 0 (fast) to 9 (small). The same pixels give the same bytes."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"encode_png takes uint8 [H, W, 3], got {pixels.dtype} {list(pixels.shape)}")
    done, data = cv2.imencode(
        ".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, compression]
    )
    if not done:
        raise ValueError(f"a picture of {list(pixels.shape)} could not be written as PNG")
    return data.tobytes()

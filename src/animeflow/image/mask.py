"""How much of every pixel of a picture counts: out of a grey picture, cut like the picture, and back to bytes. Knows pixels; knows
no folder.

A mask is uint8 `[H, W]`: 255 counts, 0 does not (or hardly: the recipe says how much), and what lies between counts in part.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from .decode import decode
from .picture import BadPicture, Limits
from .resize import Crop, cut

Mask = NDArray[np.uint8]  # [H, W]


def read_mask(data: bytes, *, height: int, width: int, limits: Limits | None = None) -> Mask:
    """The mask of a picture of this size, out of a picture file: its lightness, and transparent pixels do not count. Another size
    of the same shape is resized by area.

    Raises BadPicture: "mask_aspect" for another shape, "mask_unreadable" for what is no picture.
    """
    try:
        pixels = decode(data, background=(0, 0, 0), limits=limits).pixels
    except BadPicture as error:
        raise BadPicture("mask_unreadable", str(error)) from error
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False)
    if grey.shape == (height, width):
        return grey
    mask_height, mask_width = grey.shape
    # Whoever made the mask of a smaller picture had to round one side of it.
    if abs(mask_width - mask_height * width / height) > 1 and abs(mask_height - mask_width * height / width) > 1:
        raise BadPicture(
            "mask_aspect",
            f"the mask has {mask_width}x{mask_height} pixels and the picture {width}x{height}: another shape",
        )
    return cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def cut_mask(mask_HW: Mask, crop: Crop, *, height: int, width: int) -> Mask:
    """`[H, W]` to `[height, width]` by the very resize and crop that the picture had, as `fit` returned it."""
    return cut(mask_HW, crop, height=height, width=width)


def encode_mask(mask_HW: Mask) -> bytes:
    """Lossless grey PNG. The same mask gives the same bytes."""
    if mask_HW.dtype != np.uint8 or mask_HW.ndim != 2:
        raise ValueError(f"a mask is uint8 [H, W], got {mask_HW.dtype} {list(mask_HW.shape)}")
    done, data = cv2.imencode(".png", mask_HW)
    if not done:
        raise ValueError(f"a mask of {list(mask_HW.shape)} could not be written as PNG")
    return data.tobytes()


def decode_mask(data: bytes) -> Mask:
    """Inverse of `encode_mask`. Raises BadPicture for anything else."""
    mask = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if mask is None or mask.dtype != np.uint8 or mask.ndim != 2:
        raise BadPicture("mask_unreadable", "no grey PNG of 8 bits")
    return mask.astype(np.uint8, copy=False)


def cells(mask_HW: Mask, side: int) -> NDArray[np.float32]:
    """`[H, W]` to `[H / side, W / side]` in [0, 1]: the mean of every cell of side x side pixels."""
    height, width = mask_HW.shape
    if height % side or width % side:
        raise ValueError(f"a mask of {height}x{width} cannot be cut into cells of {side}x{side}")
    blocks = mask_HW.reshape(height // side, side, width // side, side)
    return (blocks.sum(axis=(1, 3), dtype=np.int64) / (255 * side * side)).astype(np.float32)

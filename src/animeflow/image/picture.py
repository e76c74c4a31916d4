"""What decoding gives and what it refuses: Picture, Limits, BadPicture. Knows numpy; knows no file format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigError, DataError

Pixels = NDArray[np.uint8]  # [H, W, 3], RGB, sRGB

PIXEL_CEILING = 178_956_970  # Pillow refuses to open anything larger: twice its MAX_IMAGE_PIXELS


class BadPicture(DataError):
    """This file is not a picture we can use. Counted under `reason` and skipped, never fatal.

    Args:
        reason: a short slug that reports count by: empty, unknown_format, truncated, unreadable, too_large, too_small, ...
        detail: one line for a person, with the numbers.
    """

    def __init__(self, reason: str, detail: str) -> None:
        self.reason, self.detail = reason, detail
        super().__init__(f"{reason}: {detail}")

    def __reduce__(self) -> tuple[Any, ...]:  # crosses process pools
        return BadPicture, (self.reason, self.detail)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a hostile file may cost; everything is checked before a pixel is decoded.

    Args:
        max_pixels: height x width of the first frame.
        max_side: the longer side.
        max_bytes: size of the file.
        max_frames: frames of an animation (only the first is decoded).
        max_icc_bytes: size of the colour profile, after inflating.
        max_text_bytes: all text and metadata chunks together, as stored (they are never inflated).
    """

    max_pixels: int = 80_000_000
    max_side: int = 30_000
    max_bytes: int = 256 * 1024 * 1024
    max_frames: int = 10_000
    max_icc_bytes: int = 4 * 1024 * 1024
    max_text_bytes: int = 32 * 1024 * 1024

    def __post_init__(self) -> None:
        if not 0 < self.max_pixels <= PIXEL_CEILING:
            raise ConfigError(
                f"max_pixels={self.max_pixels:,} is not between 1 and {PIXEL_CEILING:,}",
                why="the decoder underneath refuses larger pictures",
                do=f"set max_pixels to at most {PIXEL_CEILING}",
            )

    def check_size(self, height: int, width: int) -> None:
        """Raises BadPicture("too_large") for a decompression bomb, ("unreadable") for an empty canvas."""
        if height < 1 or width < 1:
            raise BadPicture("unreadable", f"the header says {width}x{height} pixels")
        if height * width > self.max_pixels or max(height, width) > self.max_side:
            raise BadPicture(
                "too_large",
                f"{width:,}x{height:,} = {height * width:,} pixels; the limits are {self.max_pixels:,} pixels "
                f"and {self.max_side:,} a side",
            )


@dataclass(frozen=True, kw_only=True)
class PictureFacts:
    """What the file was before it became RGB.

    Attributes:
        format: PNG, JPEG, WEBP, GIF, BMP, TIFF or AVIF.
        mode: the decoder's name of the pixel layout (RGB, RGBA, P, L, LA, CMYK, RGB;16, ...).
        height, width: of the decoded picture, after the EXIF orientation.
        frames: 1, or the frames of the animation whose first one this is.
        bytes: size of the file.
        orientation: EXIF orientation that was applied, 1..8.
        icc: name of the embedded profile, None without one.
        transparent: some pixel was not opaque.
        notes: slugs of harmless oddities, for counting: icc_broken, icc_wrong_space, cmyk_without_profile, ...
    """

    format: str
    mode: str
    height: int
    width: int
    frames: int
    bytes: int
    orientation: int = 1
    icc: str | None = None
    transparent: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Picture:
    """Decoded pixels, uint8 `[H, W, 3]` in sRGB, and the facts of the file they came from; and how opaque it was, uint8 `[H, W]`,
    where some pixel was not opaque."""

    pixels: Pixels
    facts: PictureFacts
    alpha: NDArray[np.uint8] | None = None

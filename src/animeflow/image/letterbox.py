"""Black bars around a picture that is smaller than its frame. Knows pixels of frames; knows no video.

A bar is what stays black in every frame. One dark frame says little, many say where the picture begins, to the pixel.
"""

from __future__ import annotations

import cv2
import numpy as np

from .picture import Pixels

DARK = 32  # of 255: a codec's ringing beside a bright picture stays below it, and a picture is brighter in some frame
SHARE = 0.95  # of a line's pixels have to be dark, so that single bright ones make no picture
MIN_SIDE = 16
SMEARED, SMEAR = 2, 0.4  # lines beside the picture, and how bright they are of it
Crop = tuple[int, int, int, int]  # top, bottom, left, right: rows top:bottom, columns left:right


class Letterbox:
    """Sees frames of one size, one after the other, and says where the picture is in all of them."""

    def __init__(self, height: int, width: int) -> None:
        self.rows_H, self.columns_W = np.zeros(height, np.uint8), np.zeros(width, np.uint8)

    def see(self, frame_HW3: Pixels) -> None:
        """Take a frame into account."""
        # Brightness alone: at half the size, as codecs keep it, colour reaches over the edge of the picture.
        light_HW = cv2.cvtColor(frame_HW3, cv2.COLOR_RGB2GRAY)
        self.rows_H = np.maximum(self.rows_H, _bright(light_HW))
        # Columns are judged between the bars above and below, which would hide a narrow bright one.
        top, bottom = _ends(self.rows_H)
        if bottom > top:
            self.columns_W = np.maximum(self.columns_W, _bright(light_HW[top:bottom].T))

    def crop(self) -> Crop:
        """Where the picture is; all of the frame where there are no bars or nothing but dark."""
        (top, bottom), (left, right) = _ends(self.rows_H), _ends(self.columns_W)
        if bottom - top < MIN_SIDE or right - left < MIN_SIDE:
            return 0, len(self.rows_H), 0, len(self.columns_W)
        return top, bottom, left, right


def _bright(light: np.ndarray) -> np.ndarray:
    """Of each line the value that `SHARE` of its pixels stay below."""
    at = min(light.shape[1] - 1, int(light.shape[1] * SHARE))
    return np.partition(light, at, axis=1)[:, at]


def _ends(bright: np.ndarray) -> tuple[int, int]:
    lit = np.flatnonzero(bright > DARK)
    if not len(lit):
        return 0, 0
    return _edge(bright, int(lit[0])), len(bright) - _edge(bright[::-1], len(bright) - 1 - int(lit[-1]))


def _edge(bright: np.ndarray, first: int) -> int:
    """The first line of the picture, where `first` is lit: a line or two before it may be lit by what a codec smeared."""
    inside = bright[first + SMEARED : first + SMEARED + 6]
    level = float(np.median(inside)) if len(inside) else 0.0
    return next((at for at in range(first, first + SMEARED) if bright[at] >= SMEAR * level), first)

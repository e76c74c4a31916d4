"""A brush on a premultiplied RGBA canvas: fills, shades, gradients and lines in figure units. Knows cv2; knows no anatomy.

Everything painted goes over what is there; alpha is premultiplied, so shrinking the canvas antialiases its edges rightly.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from animeflow.toonworld.curve import Points
from animeflow.toonworld.palette import Color, mix
from animeflow.toonworld.style import Style

Pixels = NDArray[np.uint8]
SHIFT = 4  # cv2 takes coordinates in sixteenths of a pixel


class Brush:
    """Paints shapes through one similarity transform.

    Args:
        height, width: canvas in pixels.
        scale: pixels per unit. origin: pixel position of the unit point (0, 0). tilt: degrees, clockwise.
        style: how lines and shades look. grade: maps a colour to what the light makes of it.
        factor: how many times the canvas is shrunk afterwards; at 1 each shape is antialiased.
        lines: keep a line layer, too.
    """

    def __init__(
        self,
        height: int,
        width: int,
        *,
        scale: float,
        origin: tuple[float, float],
        tilt: float = 0.0,
        style: Style,
        grade: Callable[[Color], Color],
        factor: int,
        lines: bool,
    ) -> None:
        self.canvas: Pixels = np.zeros((height, width, 4), np.uint8)
        self.lines: Pixels | None = np.zeros((height, width), np.uint8) if lines else None
        self.style, self.grade, self.scale = style, lru_cache(maxsize=None)(grade), scale
        c, s = np.cos(np.radians(tilt)), np.sin(np.radians(tilt))
        # From unit points to sixteenths of a pixel; cv2 counts from the centre of the first pixel.
        self.turn = np.array([[c, s], [-s, c]], np.float32) * np.float32(scale * (1 << SHIFT))
        self.offset = ((np.asarray(origin) - 0.5) * (1 << SHIFT)).astype(np.float32)
        self.factor, self.kind = factor, cv2.LINE_AA if factor == 1 else cv2.LINE_8
        self.waiting: tuple[Points, NDArray[np.int32], Color, float] | None = None

    def _fixed(self, points: Points) -> NDArray[np.int32]:
        """Unit points [N, 2] -> cv2's fixed-point pixels [N, 2]."""
        return np.rint(points @ self.turn + self.offset).astype(np.int32)

    def _color(self, color: Color) -> tuple[float, float, float, float]:
        return (*self.grade(color), 255.0)

    def fill(self, shape: Points, color: Color, *, outline: float = 1.0, ink: Color | None = None) -> None:
        """Fill a closed shape; `outline` scales the artist's line (0: none), `ink` replaces its colour where it is tinted.

        The outline waits until the shades inside the shape are painted, so that they do not eat it.
        """
        self.finish()
        fixed = self._fixed(shape)
        cv2.fillPoly(self.canvas, [fixed], self._color(color), self.kind, SHIFT)
        if self.lines is not None:
            cv2.fillPoly(self.lines, [fixed], 0, self.kind, SHIFT)
        if outline > 0:
            tinted = ink or mix(mix(color, (60, 10, 60), 0.5), (0, 0, 0), 0.12)
            self.waiting = (shape, fixed, self.style.ink or tinted, self.style.line * outline)

    def finish(self) -> None:
        """Draw the outline that waits, if any. Call once after the last shape."""
        if self.waiting is None:
            return
        _, fixed, ink, width = self.waiting
        self.waiting = None
        if width > 0:
            self._stroke(fixed, ink, width, closed=True)
        self._trace(fixed, closed=True)

    def line(self, path: Points, color: Color, width: float, *, closed: bool = False) -> None:
        """A line that is part of the drawing whoever draws it, at least one final pixel or so wide."""
        self.finish()
        fixed = self._fixed(path)
        self._stroke(fixed, color, width, closed=closed)
        self._trace(fixed, closed=closed)

    def _stroke(self, fixed: NDArray[np.int32], color: Color, width: float, *, closed: bool) -> None:
        thickness = max(1, self.factor - 1, round(width * self.scale))
        cv2.polylines(self.canvas, [fixed], closed, self._color(color), thickness, self.kind, SHIFT)

    def _trace(self, fixed: NDArray[np.int32], *, closed: bool) -> None:
        if self.lines is not None:
            thickness = max(self.factor, round(0.006 * self.scale))
            cv2.polylines(self.lines, [fixed], closed, 255, thickness, self.kind, SHIFT)

    def _box(self, fixed: NDArray[np.int32]) -> tuple[int, int, int, int]:
        """Pixels (x0, y0, x1, y1) that hold a shape, inside the canvas."""
        h, w = self.canvas.shape[:2]
        (x0, y0), (x1, y1) = (fixed.min(0) >> SHIFT).tolist(), (fixed.max(0) >> SHIFT).tolist()
        return min(max(x0 - 1, 0), w), min(max(y0 - 1, 0), h), min(max(x1 + 3, 0), w), min(max(y1 + 3, 0), h)

    def _mask(self, fixed: NDArray[np.int32], box: tuple[int, int, int, int]) -> Pixels:
        x0, y0, x1, y1 = box
        mask: Pixels = np.zeros((y1 - y0, x1 - x0), np.uint8)
        corner = np.array([x0 << SHIFT, y0 << SHIFT], np.int32)
        cv2.fillPoly(mask, [fixed - corner], 255, self.kind, SHIFT)
        return mask

    def _over(self, box: tuple[int, int, int, int], mask: Pixels, source: Pixels | None, color: Color | None) -> None:
        """Source (premultiplied field [h, w, 4] or one colour) times mask, over the canvas."""
        x0, y0, x1, y1 = box
        target = self.canvas[y0:y1, x0:x1]
        if source is None and color is not None:
            planes = [cv2.convertScaleAbs(mask, alpha=c / 255) for c in self.grade(color)]
            paint = cv2.merge([*planes, mask])
        else:
            paint = cv2.multiply(source, cv2.merge([mask] * 4), scale=1 / 255)
        rest = cv2.bitwise_not(mask)
        cv2.add(cv2.multiply(target, cv2.merge([rest] * 4), scale=1 / 255), paint, dst=target)

    def shade(
        self,
        clip: Points,
        shape: Points,
        color: Color,
        *,
        opacity: float = 1.0,
        soft: float | None = None,
        hatch: bool = True,
    ) -> None:
        """Paint `shape` inside `clip`: the artist decides whether its edge is soft and whether it is hatched."""
        if self.waiting is not None and self.waiting[0] is not clip:
            self.finish()
        edge = self._fixed(clip)
        box = self._box(edge)
        if box[2] <= box[0] or box[3] <= box[1]:
            return
        mask = self._mask(edge if shape is clip else self._fixed(shape), box)
        softness = self.style.softness if soft is None else soft
        if softness > 0:
            reach = max(1, round(softness * self.scale)) | 1
            mask = cv2.blur(cv2.blur(mask, (reach, reach)), (reach, reach))
        if hatch and self.style.hatch > 0:
            mask = cv2.min(mask, _stripes(box, self.style.hatch * self.scale))
        if shape is not clip:
            mask = cv2.min(mask, self._mask(edge, box))
        if opacity < 1:
            mask = cv2.convertScaleAbs(mask, alpha=opacity)
        self._over(box, mask, None, color)

    def gradient(self, clip: Points, top: Color, bottom: Color, *, opacity: float = 1.0) -> None:
        """A vertical gradient over the height of `clip`, inside it."""
        self.finish()
        edge = self._fixed(clip)
        box = self._box(edge)
        h, w = box[3] - box[1], box[2] - box[0]
        if h <= 0 or w <= 0:
            return
        ramp = np.linspace(0, 1, h, dtype=np.float32)[:, None]
        a, b = (np.array(self._color(c), np.float32) for c in (top, bottom))
        field = cv2.repeat(np.round(a + (b - a) * ramp).astype(np.uint8)[:, None, :], 1, w)
        mask = self._mask(edge, box)
        if opacity < 1:
            mask = cv2.convertScaleAbs(mask, alpha=opacity)
        self._over(box, mask, field, None)

    def glow(self, center: tuple[float, float], radius: float, color: Color, *, opacity: float = 1.0) -> None:
        """A round light that fades to nothing at `radius`."""
        self.finish()
        disc = np.array([[-1, -1], [1, 1]], np.float32) * radius + np.asarray(center, np.float32)
        box = self._box(self._fixed(disc))
        h, w = box[3] - box[1], box[2] - box[0]
        if h <= 0 or w <= 0:
            return
        x, y = self._fixed(np.array([center], np.float32))[0] / (1 << SHIFT) + 0.5
        dx = (np.arange(box[0], box[2], dtype=np.float32) + 0.5 - x) / (radius * self.scale)
        dy = (np.arange(box[1], box[3], dtype=np.float32) + 0.5 - y) / (radius * self.scale)
        fall = np.clip(1 - dx[None, :] ** 2 - dy[:, None] ** 2, 0, 1) ** 2
        self._over(box, np.round(fall * (255 * opacity)).astype(np.uint8), None, color)


def _stripes(box: tuple[int, int, int, int], period: float) -> Pixels:
    """Diagonal stripes over the pixels (x0, y0, x1, y1), a little more than half of them, with edges one pixel soft."""
    x0, y0, x1, y1 = box
    length = max(period * np.sqrt(2), 2.0)  # along a row
    wave = np.abs(np.arange(x0 + y0, x1 + y1) / length % 1 - 0.5) * 2  # 0..1 triangle, a function of x + y
    edge = np.round(np.clip((0.58 - wave) * length / 2 + 0.5, 0, 1) * 255).astype(np.uint8)
    return np.ascontiguousarray(np.lib.stride_tricks.sliding_window_view(edge, x1 - x0)[: y1 - y0])

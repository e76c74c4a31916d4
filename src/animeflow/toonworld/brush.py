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
        fine: antialias each shape (for canvases that are not shrunk afterwards).
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
        fine: bool,
        lines: bool,
    ) -> None:
        self.canvas: Pixels = np.zeros((height, width, 4), np.uint8)
        self.lines: Pixels | None = np.zeros((height, width), np.uint8) if lines else None
        self.style, self.grade, self.scale, self.origin = style, grade, scale, origin
        c, s = np.cos(np.radians(tilt)), np.sin(np.radians(tilt))
        self.turn = np.array([[c, s], [-s, c]], np.float32) * scale
        self.kind = cv2.LINE_AA if fine else cv2.LINE_8

    def pixel(self, points: Points) -> NDArray[np.float32]:
        """Unit points [N, 2] -> canvas pixels [N, 2]."""
        return points @ self.turn + np.asarray(self.origin, np.float32)

    def _fixed(self, points: Points) -> NDArray[np.int32]:
        return np.round((self.pixel(points) - 0.5) * (1 << SHIFT)).astype(np.int32)

    def _color(self, color: Color) -> tuple[float, float, float, float]:
        return (*self.grade(color), 255.0)

    def fill(self, shape: Points, color: Color, *, outline: float = 1.0, ink: Color | None = None) -> None:
        """Fill a closed shape; `outline` scales the artist's line (0: none), `ink` replaces its colour where it is tinted."""
        fixed = self._fixed(shape)
        cv2.fillPoly(self.canvas, [fixed], self._color(color), self.kind, SHIFT)
        if self.lines is not None:
            cv2.fillPoly(self.lines, [fixed], 0, self.kind, SHIFT)
        if outline <= 0:
            return
        if self.style.line > 0:
            tinted = ink or mix(mix(color, (60, 10, 60), 0.5), (0, 0, 0), 0.12)
            self._stroke(fixed, self.style.ink or tinted, self.style.line * outline, closed=True)
        self._trace(fixed, closed=True)

    def line(self, path: Points, color: Color, width: float, *, closed: bool = False) -> None:
        """A line that is part of the drawing whoever draws it, at least one final pixel or so wide."""
        fixed = self._fixed(path)
        self._stroke(fixed, color, width, closed=closed)
        self._trace(fixed, closed=closed)

    def _stroke(self, fixed: NDArray[np.int32], color: Color, width: float, *, closed: bool) -> None:
        thickness = max(1, round(width * self.scale))
        cv2.polylines(self.canvas, [fixed], closed, self._color(color), thickness, self.kind, SHIFT)

    def _trace(self, fixed: NDArray[np.int32], *, closed: bool) -> None:
        if self.lines is not None:
            cv2.polylines(self.lines, [fixed], closed, 255, max(1, round(0.008 * self.scale)), self.kind, SHIFT)

    def _box(self, shape: Points) -> tuple[int, int, int, int]:
        p = self.pixel(shape)
        h, w = self.canvas.shape[:2]
        x0, y0 = np.clip(np.floor(p.min(0)).astype(int) - 1, 0, (w, h))
        x1, y1 = np.clip(np.ceil(p.max(0)).astype(int) + 2, 0, (w, h))
        return int(x0), int(y0), int(x1), int(y1)

    def _mask(self, shape: Points, box: tuple[int, int, int, int]) -> Pixels:
        x0, y0, x1, y1 = box
        mask: Pixels = np.zeros((y1 - y0, x1 - x0), np.uint8)
        fixed = self._fixed(shape) - np.array([x0, y0], np.int32) * (1 << SHIFT)
        cv2.fillPoly(mask, [fixed], 255, self.kind, SHIFT)
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
        box = self._box(clip)
        if box[2] <= box[0] or box[3] <= box[1]:
            return
        mask = self._mask(shape, box)
        softness = self.style.softness if soft is None else soft
        if softness > 0:
            reach = max(1, round(softness * self.scale)) | 1
            mask = cv2.blur(cv2.blur(mask, (reach, reach)), (reach, reach))
        if hatch and self.style.hatch > 0:
            h, w = self.canvas.shape[:2]
            stripes = _stripes(h, w, round(self.style.hatch * self.scale, 2))
            mask = cv2.min(mask, stripes[box[1] : box[3], box[0] : box[2]])
        mask = cv2.min(mask, self._mask(clip, box))
        if opacity < 1:
            mask = cv2.convertScaleAbs(mask, alpha=opacity)
        self._over(box, mask, None, color)

    def gradient(self, clip: Points, top: Color, bottom: Color, *, opacity: float = 1.0) -> None:
        """A vertical gradient over the height of `clip`, inside it."""
        box = self._box(clip)
        h, w = box[3] - box[1], box[2] - box[0]
        if h <= 0 or w <= 0:
            return
        ramp = np.linspace(0, 1, h, dtype=np.float32)[:, None]
        a, b = (np.array(self._color(c), np.float32) for c in (top, bottom))
        column = np.round(a + (b - a) * ramp).astype(np.uint8)[:, None, :]
        mask = self._mask(clip, box)
        if opacity < 1:
            mask = cv2.convertScaleAbs(mask, alpha=opacity)
        self._over(box, mask, np.ascontiguousarray(np.broadcast_to(column, (h, w, 4))), None)

    def glow(self, center: tuple[float, float], radius: float, color: Color, *, opacity: float = 1.0) -> None:
        """A round light that fades to nothing at `radius`."""
        disc = np.array([[-1, -1], [1, 1]], np.float32) * radius + np.asarray(center, np.float32)
        box = self._box(disc)
        h, w = box[3] - box[1], box[2] - box[0]
        if h <= 0 or w <= 0:
            return
        x, y = self.pixel(np.array([center], np.float32))[0]
        dx = (np.arange(box[0], box[2], dtype=np.float32) + 0.5 - x) / (radius * self.scale)
        dy = (np.arange(box[1], box[3], dtype=np.float32) + 0.5 - y) / (radius * self.scale)
        fall = np.clip(1 - dx[None, :] ** 2 - dy[:, None] ** 2, 0, 1) ** 2
        self._over(box, np.round(fall * (255 * opacity)).astype(np.uint8), None, color)


@lru_cache(maxsize=16)
def _stripes(height: int, width: int, period: float) -> Pixels:
    """Diagonal stripes, about half of the area, with edges one pixel soft. [H, W]."""
    across = (np.arange(width)[None, :] + np.arange(height)[:, None]) / max(period * np.sqrt(2), 2.0)
    wave = np.abs(across % 1 - 0.5) * 2  # 0..1 triangle
    edge = np.clip((0.58 - wave) * max(period * np.sqrt(2), 2.0) / 2 + 0.5, 0, 1)
    return np.round(edge * 255).astype(np.uint8)

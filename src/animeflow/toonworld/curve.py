"""Shapes as polygons in figure units (height of a figure = 1, x to the right, y down). Knows points; knows no pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, wraps
from typing import Any

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float32]  # [N, 2]
Pairs = Sequence[tuple[float, float]] | str  # or "x y, x y*, ...": an asterisk makes a sharp corner


def _remembered(make: Callable[..., Points]) -> Callable[..., Points]:
    """Shapes are drawn again and again with the same numbers: keep the last few thousand, read-only."""

    @lru_cache(maxsize=4096)
    def kept(*args: Any, **options: Any) -> Points:
        shape = make(*args, **options)
        shape.setflags(write=False)
        return shape

    @wraps(make)
    def outer(first: Any, *args: Any, **options: Any) -> Points:
        if isinstance(first, list):
            first = tuple(first)
        return kept(first, *args, **options)

    return outer


def _pairs(points: Pairs) -> list[tuple[float, float]]:
    """Points as numbers. A corner is a point that comes twice."""
    if not isinstance(points, str):
        return [(float(x), float(y)) for x, y in points]
    pairs = []
    for word in points.split(","):
        x, y = word.rstrip("*").split()
        pairs += [(float(x), float(y))] * (2 if word.endswith("*") else 1)
    return pairs


def polygon(points: Pairs) -> Points:
    return np.asarray(_pairs(points), dtype=np.float32).reshape(-1, 2)


@_remembered
def smooth(points: Pairs, *, closed: bool = True, steps: int = 8) -> Points:
    """Catmull-Rom spline through the points. A point given twice in a row (or marked `*`) is a sharp corner."""
    p = np.asarray(_pairs(points), dtype=np.float64)
    if closed:
        before, after, after2, last = np.roll(p, 1, 0), np.roll(p, -1, 0), np.roll(p, -2, 0), len(p)
    else:
        before = np.concatenate([p[:1], p[:-1]])
        after = np.concatenate([p[1:], p[-1:]])
        after2 = np.concatenate([p[2:], p[-1:], p[-1:]])
        last = len(p) - 1
    t = np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    real = np.any(p[:last] != after[:last], axis=1)  # between the two copies of a corner there is nothing to draw
    a, b, c, d = (q[:last][real][:, None, :] for q in (before, p, after, after2))
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    curve = curve.reshape(-1, 2)
    return (curve if closed else np.concatenate([curve, p[-1:]])).astype(np.float32)


def mirror(points: Points) -> Points:
    """The same shape on the other side of the figure's axis."""
    return points[::-1] * np.array([-1, 1], dtype=np.float32)


@_remembered
def symmetric(right_half: Pairs, *, steps: int = 7) -> Points:
    """Closed smooth shape from its half with x >= 0, listed from the top to the bottom."""
    right = _pairs(right_half)
    left = [(-x, y) for x, y in reversed(right) if x > 1e-6]
    return smooth([*right, *left], steps=steps)


@_remembered
def ellipse(center: tuple[float, float], rx: float, ry: float, *, turn: float = 0.0, steps: int = 0) -> Points:
    """Ellipse turned by `turn` degrees (clockwise on the picture); 0 steps chooses enough for its size."""
    steps = steps or min(64, 22 + round(140 * max(rx, ry)))
    a = np.linspace(0, 2 * np.pi, steps, endpoint=False)
    points = np.stack([rx * np.cos(a), ry * np.sin(a)], 1)
    return (rotated(points, turn) + np.asarray(center)).astype(np.float32)


def rotated(points: Points | NDArray[np.float64], degrees: float, about: tuple[float, float] = (0, 0)) -> Points:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    pivot = np.asarray(about)
    return ((points - pivot) @ np.array([[c, s], [-s, c]]) + pivot).astype(np.float32)


def moved(points: Points, dx: float = 0, dy: float = 0, *, scale: float = 1.0) -> Points:
    """Scaled about the origin, then shifted."""
    return (points * scale + np.array([dx, dy])).astype(np.float32)


@_remembered
def star(center: tuple[float, float], radius: float, *, tips: int = 5, inner: float = 0.48, turn: float = 0) -> Points:
    a = np.radians(turn - 90) + np.arange(2 * tips) * np.pi / tips
    r = np.where(np.arange(2 * tips) % 2 == 0, radius, radius * inner)
    return (np.stack([r * np.cos(a), r * np.sin(a)], 1) + np.asarray(center)).astype(np.float32)


@_remembered
def limb(
    start: tuple[float, float], end: tuple[float, float], w0: float, w1: float, *, bend: float = 0.0, cap: float = 1.0
) -> Points:
    """Tapered tube with half widths `w0` -> `w1`; `bend` pushes its middle sideways, `cap` rounds its far end."""
    a, b = np.asarray(start, float), np.asarray(end, float)
    along = (b - a) / max(float(np.hypot(*(b - a))), 1e-6)
    side = np.array([-along[1], along[0]])
    middle, wm = (a + b) / 2 + side * bend, (w0 + w1) / 2
    points = [a + side * w0, middle + side * wm, b + side * w1, b + along * w1 * cap]
    points += [b - side * w1, middle - side * wm, a - side * w0]
    return smooth([(float(x), float(y)) for x, y in points], steps=6)

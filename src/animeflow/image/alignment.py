"""Where one picture lies in another: a scale and a shift, from corners of the content and from features that both have.
Knows two pictures; judges no likeness."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from .perceptual import Box, Grey, content_box, shrunk
from .picture import Picture

SIDE = 768
"""Longer side at which pictures are compared: an eye of a whole figure is still some pixels wide."""
FEATURE_SIDE = 448
FEATURES = 500
RATIO = 0.82  # a match is kept when the second best is so much farther
ASPECT = 0.03  # frames whose aspects differ less may be one resized to the other


@dataclass(frozen=True, eq=False)
class View:
    """A picture made ready to be compared: at most SIDE, over white, with its alpha and the box of its content."""

    pixels: NDArray[np.uint8]
    alpha: Grey | None
    box: Box
    source: tuple[int, int]  # (width, height) of the picture it was made from
    _features: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = field(default_factory=list)

    @classmethod
    def of(cls, picture: Picture) -> View:
        pixels = shrunk(picture.pixels, SIDE)
        alpha = None if picture.alpha is None else shrunk(picture.alpha, SIDE)
        height, width = picture.pixels.shape[:2]
        return cls(pixels, alpha, content_box(pixels, alpha), (width, height))

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)"""
        return self.pixels.shape[1], self.pixels.shape[0]

    def mirrored(self) -> View:
        left, top, right, bottom = self.box
        wide = self.size[0]
        pixels = np.ascontiguousarray(self.pixels[:, ::-1])
        alpha = None if self.alpha is None else np.ascontiguousarray(self.alpha[:, ::-1])
        return View(pixels, alpha, (wide - right, top, wide - left, bottom), self.source)

    def features(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Places `[N, 2]` and descriptors `[N, 128]`, made once."""
        if not self._features:
            grey = cv2.cvtColor(shrunk(self.pixels, FEATURE_SIDE), cv2.COLOR_RGB2GRAY)
            back = self.size[0] / grey.shape[1]
            points, descriptors = _sift().detectAndCompute(grey, None)
            places = np.array([p.pt for p in points], np.float32).reshape(-1, 2)
            if descriptors is None:
                descriptors = np.zeros((0, 128), np.float32)
            unit = np.sqrt(descriptors / np.maximum(descriptors.sum(1, keepdims=True), 1e-6))  # Hellinger distance
            self._features.append(((places + 0.5) * back - 0.5, unit.astype(np.float32)))
        return self._features[0]


@dataclass(frozen=True)
class Placement:
    """x_b = scale_x * x_a + x, and the same for y, in pixels of the two views."""

    scale_x: float
    scale_y: float
    x: float
    y: float
    how: str
    support: int = 0

    @property
    def inverse(self) -> Placement:
        return Placement(
            *(1 / self.scale_x, 1 / self.scale_y, -self.x / self.scale_x, -self.y / self.scale_y),
            *(self.how, self.support),
        )


def placements(a: View, b: View) -> Iterator[Placement]:
    """Every way in which `a` may lie in `b`, the plain ones first; the dear one is looked for when it is asked for."""
    if (frames := _box_to_box((0, 0, *a.size), (0, 0, *b.size), "frame")) is not None:
        yield frames
    if (matched := by_features(a, b)) is not None:
        yield matched
    whole = (0, 0, *a.size) == a.box and (0, 0, *b.size) == b.box
    if not whole and (boxes := _box_to_box(a.box, b.box, "content")) is not None:
        yield boxes


def _box_to_box(a: Box, b: Box, how: str) -> Placement | None:
    wide_a, high_a, wide_b, high_b = a[2] - a[0], a[3] - a[1], b[2] - b[0], b[3] - b[1]
    scale_x, scale_y = wide_b / wide_a, high_b / high_a
    # A small box has its sides only to the pixel.
    room = ASPECT + 1.5 / min(wide_a, high_a, wide_b, high_b)
    if abs(scale_x / scale_y - 1) > room:
        return None
    return Placement(
        scale_x, scale_y, (b[0] - 0.5) - scale_x * (a[0] - 0.5), (b[1] - 0.5) - scale_y * (a[1] - 0.5), how
    )


@lru_cache(maxsize=1)
def _sift() -> cv2.SIFT:
    return cv2.SIFT_create(nfeatures=FEATURES, contrastThreshold=0.02)  # type: ignore[attr-defined]


def by_features(a: View, b: View) -> Placement | None:
    """The scale and shift that most matches agree on, fitted to them by least squares. Pictures are not turned."""
    from_N2, to_N2 = _matches(a, b)
    if len(from_N2) < 4:
        return None
    first, second = np.triu_indices(len(from_N2), 1)
    if len(first) > 4000:  # the same ones every time
        chosen = np.linspace(0, len(first) - 1, 4000).astype(int)
        first, second = first[chosen], second[chosen]
    in_a, in_b = from_N2[second] - from_N2[first], to_N2[second] - to_N2[first]
    long_a, long_b = np.hypot(*in_a.T), np.hypot(*in_b.T)
    turn = (in_a * in_b).sum(1) / np.maximum(long_a * long_b, 1e-6)
    good = (long_a > 0.06 * max(a.size)) & (long_b > 4) & (turn > 0.99)
    if not good.any():
        return None
    first, scale_K = first[good], (long_b / np.maximum(long_a, 1e-6))[good]
    shift_K2 = to_N2[first] - scale_K[:, None] * from_N2[first]
    room = 0.008 * max(b.size) + 1
    off_KN = np.abs(scale_K[:, None, None] * from_N2[None] + shift_K2[:, None] - to_N2[None]).max(2)
    inliers = off_KN[(off_KN < room).sum(1).argmax()] < room
    for _ in range(3):
        if inliers.sum() < 4:
            return None
        scale, x, y = _fit(from_N2[inliers], to_N2[inliers])
        off = np.abs(scale * from_N2 + (x, y) - to_N2).max(1)
        inliers = off < room
    return Placement(scale, scale, x, y, "features", int(inliers.sum()))


def _matches(a: View, b: View) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Places in `a` and in `b` of features that are each other's nearest by far."""
    (at_a, code_a), (at_b, code_b) = a.features(), b.features()
    empty = np.zeros((0, 2), np.float32)
    if len(code_a) < 4 or len(code_b) < 4:
        return empty, empty
    near_NM = code_a @ code_b.T  # cosine; 2 - 2 cosine is the squared distance
    best = near_NM.argmax(1)
    rows = np.arange(len(code_a))
    first = near_NM[rows, best]
    # The second best of another place: one spot has a feature for each direction.
    off_x, off_y = (np.abs(at_b[best, k, None] - at_b[None, :, k]) for k in (0, 1))
    second = np.where((off_x > 3) | (off_y > 3), near_NM, -1).max(1)
    apart = (1 - first) < RATIO**2 * (1 - second)
    mutual = near_NM.argmax(0)[best] == rows
    kept = np.flatnonzero(apart & mutual & (first > 0.6))
    places = np.unique(np.concatenate([at_a[kept], at_b[best[kept]]], 1), axis=0)
    return places[:, :2], places[:, 2:]


def _fit(from_N2: NDArray[np.float32], to_N2: NDArray[np.float32]) -> tuple[float, float, float]:
    """Least squares of to = scale * from + shift."""
    mean_a, mean_b = from_N2.mean(0), to_N2.mean(0)
    scale = float(((from_N2 - mean_a) * (to_N2 - mean_b)).sum() / max(float(((from_N2 - mean_a) ** 2).sum()), 1e-6))
    x, y = mean_b - scale * mean_a
    return scale, float(x), float(y)


def one_thread() -> None:
    """For worker processes: many of them share the cores."""
    cv2.setNumThreads(1)

"""Two pictures laid over each other, compared block by block. Knows pixels and a placement; names no relation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .alignment import Placement, View
from .perceptual import OPAQUE

BLOCK = 8
SOLID = 250  # alpha from which a background does not shine through
REACH = 1  # pixels by which a block may lie beside its place
SEEN = 26  # levels that a smoothed pixel must differ by to count; recompression to quality 60 stays below
COLOUR = 1.3  # a level of colour beside one of light
TEXTURE = 7.0  # standard deviation of a block that has something to compare
ALIKE = 0.75  # correlation of two blocks that show the same lines
MANY = 256  # blocks with lines that it takes to know how unsteady they are
FEW_ODD = 4  # blocks overlap, so that every spot lies in four
STEADY = 0.005  # the twentieth part that is least alike is apart by this at least

WINDOW = (2 * BLOCK, 2 * BLOCK)
STEP = (slice(BLOCK // 2, None, BLOCK),) * 2

Mask = NDArray[np.bool_]
Field = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Overlay:
    """Both on the grid of the coarser one. `frame` is where both frames are, `ink` where each has content, `solid` where nothing
    shines through it."""

    a: NDArray[np.uint8]
    b: NDArray[np.uint8]
    frame: Mask
    ink_a: Mask
    ink_b: Mask
    solid_a: Mask
    solid_b: Mask
    covers_a: float  # share of the content of a that lies inside the frame of b
    covers_b: float


def overlay(a: View, b: View, placement: Placement) -> Overlay:
    """Lay the finer picture on the grid of the coarser one."""
    if placement.scale_x > 1:  # b has more pixels for the same thing
        over = overlay(b, a, placement.inverse)
        return Overlay(
            *(over.b, over.a, over.frame, over.ink_b, over.ink_a, over.solid_b, over.solid_a),
            *(over.covers_b, over.covers_a),
        )
    width, height = b.size
    pixels, alpha, rest = a.pixels, a.alpha, placement
    small = max(1, round(a.size[0] * placement.scale_x)), max(1, round(a.size[1] * placement.scale_y))
    if small != a.size:
        pixels = np.asarray(cv2.resize(pixels, small, interpolation=cv2.INTER_AREA), np.uint8)
        alpha = None if alpha is None else np.asarray(cv2.resize(alpha, small, interpolation=cv2.INTER_AREA), np.uint8)
        rx, ry = small[0] / a.size[0], small[1] / a.size[1]
        # Pixel centres: x_small + 0.5 = rx * (x + 0.5)
        sx, sy = placement.scale_x / rx, placement.scale_y / ry
        rest = Placement(
            *(sx, sy, placement.x + placement.scale_x * 0.5 * (1 / rx - 1)),
            *(placement.y + placement.scale_y * 0.5 * (1 / ry - 1), placement.how),
        )
    warp = np.array([[rest.scale_x, 0, rest.x], [0, rest.scale_y, rest.y]], np.float32)
    whole_a = np.full(pixels.shape[:2], 255, np.uint8)

    def laid(picture: NDArray[np.uint8], *, border: int) -> NDArray[np.uint8]:
        colour = (border,) * 3
        done = cv2.warpAffine(picture, warp, (width, height), flags=cv2.INTER_LINEAR, borderValue=colour)
        return np.asarray(done, np.uint8)

    frame = laid(whole_a, border=0) > 254
    content_a = _ink(pixels, alpha, _scaled_box(a, small))
    content_b = _ink(b.pixels, b.alpha, b.box)
    ink_a = laid(content_a.astype(np.uint8) * 255, border=0) > 127
    inside_a = ink_a.sum() / max(1.0, content_a.sum() * rest.scale_x * rest.scale_y)
    inside_b = (content_b & frame).sum() / max(1, content_b.sum())
    solid_a, solid_b = (
        np.ones(p.shape[:2], bool) if t is None else t >= SOLID for p, t in ((pixels, alpha), (b.pixels, b.alpha))
    )
    # Beyond its frame a shows what b does: what is measured around a pixel at the edge would else see paper beside a picture.
    shown_a = np.where(frame[..., None], laid(pixels, border=255), b.pixels)
    return Overlay(
        *(shown_a, b.pixels, frame, ink_a, content_b),
        *(laid(solid_a.astype(np.uint8) * 255, border=0) > 250, solid_b),
        *(min(1.0, float(inside_a)), float(inside_b)),
    )


def _scaled_box(view: View, size: tuple[int, int]) -> tuple[int, int, int, int]:
    rx, ry = size[0] / view.size[0], size[1] / view.size[1]
    left, top, right, bottom = view.box
    return int(left * rx), int(top * ry), round(right * rx), round(bottom * ry)


def _ink(pixels: NDArray[np.uint8], alpha: NDArray[np.uint8] | None, box: tuple[int, int, int, int]) -> Mask:
    """Where there is content: alpha where there is one, else the box of what is not paper."""
    if alpha is not None:
        return np.asarray(alpha >= OPAQUE)
    inside = np.zeros(pixels.shape[:2], bool)
    left, top, right, bottom = box
    inside[top:bottom, left:right] = True
    return inside


@dataclass(frozen=True, eq=False)
class Difference:
    """What two aligned pictures differ in, within some area.

    Attributes:
        alike: share of the blocks with lines, in either, that show the same lines.
        same: share of the blocks (with content) where no pixel differs visibly, of all.
        changed: share of the area that differs visibly.
        largest: pixels of the largest connected spot that differs visibly.
        odd: how many times farther from the other picture the least alike blocks are than its unsteadiest ones are as a rule. What
            recompression and resampling take they take everywhere; a changed mouth of a whole figure is a few pixels, but odd ones.
        level: mean difference in levels.
        blocks: how many blocks with lines there were.
        area: pixels that were compared.
        spot: (x, y) centre of the largest spot, as shares of the compared box.
    """

    alike: float
    same: float
    changed: float
    largest: int
    odd: float
    level: float
    blocks: int
    area: int
    spot: tuple[float, float]


def difference(a: NDArray[np.uint8], b: NDArray[np.uint8], area: Mask) -> Difference:
    """Of two pictures `[H, W, 3]` on one grid, within `area`."""
    off = _settled(a, b)
    off[~area] = 0
    seen = off > SEEN
    pixels = max(1, int(area.sum()))
    largest, spot = _largest(seen, area)
    lines, match = _lines(a, b, area)
    whole = cv2.blur(area.astype(np.float32), WINDOW)[STEP] > 0.99  # beside a figure lies a background
    filled = _pooled(area.astype(np.float32)) > 0.5
    quiet = _pooled(seen.astype(np.float32)) < 0.04
    return Difference(
        alike=float(((match > ALIKE) & lines).sum() / max(1, lines.sum())),
        same=float((quiet & filled).sum() / max(1, filled.sum())),
        changed=float(seen.sum() / pixels),
        largest=largest,
        odd=_odd(match[lines & whole]),
        level=float(off.sum() / pixels),
        blocks=int(lines.sum()),
        area=pixels,
        spot=spot,
    )


def lines(over: Overlay) -> tuple[float, int]:
    """Share of the blocks with lines that show the same ones, where both have content, and how many blocks have lines. Much cheaper
    than the whole difference."""
    area = over.frame & over.ink_a & over.ink_b
    lined, match = _lines(over.a, over.b, area)
    return float(((match > ALIKE) & lined).sum() / max(1, lined.sum())), int(lined.sum())


def _pooled(values: Field) -> Field:
    """Means of blocks; what does not fill a block at the right and below is left out."""
    height, width = values.shape[0] // BLOCK, values.shape[1] // BLOCK
    cut = values[: height * BLOCK, : width * BLOCK]
    return np.asarray(cv2.resize(cut, (width, height), interpolation=cv2.INTER_AREA), np.float32) if cut.size else cut


def _moves() -> Iterator[tuple[int, int]]:
    """Small moves, the smallest first."""
    reach = range(-REACH, REACH + 1)
    yield from sorted(((dx, dy) for dx in reach for dy in reach), key=lambda d: (abs(d[0]) + abs(d[1]), d))


def _framed(picture: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(cv2.copyMakeBorder(picture, REACH, REACH, REACH, REACH, cv2.BORDER_REPLICATE))


def _moved(framed: NDArray[Any], dx: int, dy: int) -> NDArray[Any]:
    height, width = framed.shape[0] - 2 * REACH, framed.shape[1] - 2 * REACH
    return framed[REACH + dy : REACH + dy + height, REACH + dx : REACH + dx + width]


def _settled(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Difference at every pixel, with b moved, block by block, to where it fits best. Colour is compared more softly than light:
    JPEG keeps a quarter of it, and what an artist draws has lines."""
    light_a, light_b = (cv2.cvtColor(p, cv2.COLOR_RGB2GRAY) for p in (a, b))
    light_a, framed = cv2.GaussianBlur(light_a, (0, 0), 1.0), _framed(cv2.GaussianBlur(light_b, (0, 0), 1.0))
    best = np.full(a.shape[:2], np.inf, np.float32)
    settled_b = np.zeros(a.shape[:2], np.uint8)
    for dx, dy in _moves():
        moved = np.ascontiguousarray(_moved(framed, dx, dy))
        around = cv2.boxFilter(cv2.absdiff(light_a, moved), cv2.CV_32F, (2 * BLOCK + 1, 2 * BLOCK + 1))
        around += 0.15 * (abs(dx) + abs(dy))  # a move must pay: flat blocks stay where they are
        better = (around < best).view(np.uint8)
        cv2.copyTo(around, better, best)
        cv2.copyTo(moved, better, settled_b)
    kept = cv2.max(_outside(light_a, settled_b), _outside(settled_b, light_a))
    colour_a, colour_b = (cv2.GaussianBlur(cv2.cvtColor(p, cv2.COLOR_RGB2YCrCb), (0, 0), 3.0) for p in (a, b))
    _, red, blue = cv2.split(cv2.absdiff(colour_a, colour_b))
    return np.asarray(cv2.max(kept, cv2.convertScaleAbs(cv2.max(red, blue), alpha=COLOUR)))


def _outside(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """How far a pixel of a is outside all that b shows within a pixel of it: an edge half a pixel off is no difference, a line that
    is not there is."""
    near = np.ones((3, 3), np.uint8)
    return np.asarray(cv2.max(cv2.subtract(a, cv2.dilate(b, near)), cv2.subtract(cv2.erode(b, near), a)))


def _largest(seen: Mask, area: Mask) -> tuple[int, tuple[float, float]]:
    count, _, stats, centres = cv2.connectedComponentsWithStats(seen.astype(np.uint8), connectivity=8)
    if count < 2:
        return 0, (0.5, 0.5)
    k = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    ys, xs = np.flatnonzero(area.any(1)), np.flatnonzero(area.any(0))
    x = (centres[k][0] - xs[0]) / max(1, xs[-1] - xs[0])
    y = (centres[k][1] - ys[0]) / max(1, ys[-1] - ys[0])
    return int(stats[k, cv2.CC_STAT_AREA]), (round(float(x), 3), round(float(y), 3))


def _odd(match_N: Field) -> float:
    """See `Difference.odd`; 0 where there are too few blocks to know what is a rule."""
    if len(match_N) < MANY:
        return 0.0
    apart = np.sort(1 - match_N)[::-1]
    return float(apart[FEW_ODD - 1] / max(float(apart[len(apart) // 20]), STEADY))


def _lines(a: NDArray[np.uint8], b: NDArray[np.uint8], area: Mask) -> tuple[Mask, Field]:
    """Blocks (of 16, every 8 pixels) with lines in either, and how much the lines are the same: the correlation of light, best of
    small moves."""
    grey_a, grey_b = (cv2.cvtColor(p, cv2.COLOR_RGB2GRAY).astype(np.float32) for p in (a, b))
    mean_a, var_a = _moments(grey_a)
    mean_b, var_b = (_framed(f) for f in _moments(grey_b))
    framed = _framed(grey_b)
    best = np.full(mean_a[STEP].shape, -1, np.float32)
    for dx, dy in _moves():
        cross = cv2.blur(grey_a * _moved(framed, dx, dy), WINDOW)[STEP] - mean_a[STEP] * _moved(mean_b, dx, dy)[STEP]
        best = np.maximum(best, cross / np.sqrt(var_a[STEP] * _moved(var_b, dx, dy)[STEP] + 4.0))
    inside = cv2.blur(area.astype(np.float32), WINDOW)[STEP] > 0.6
    most = np.maximum(var_a, _moved(var_b, 0, 0))[STEP]
    lines = (np.sqrt(most) > TEXTURE) & inside
    return np.asarray(lines), best


def _moments(grey: Field) -> tuple[Field, Field]:
    """Mean and variance around every pixel."""
    mean = cv2.blur(grey, WINDOW)
    return mean, np.maximum(cv2.blur(grey * grey, WINDOW) - mean**2, 0)

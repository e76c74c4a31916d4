"""How much a picture looks as if one half-transparent mark were repeated all over it. Knows pixels; decides nothing.

Fine detail, evened out so that lines of the drawing count no more than faint letters, is compared with itself at every distance.
A tiled mark gives a lattice of distances that all agree; the sum over the best lattice is the value, less where most of the
picture does not take part: a dotted dress repeats too, but only there.

Polka dots and patterned walls that fill a picture look the same to this measure. It orders a queue; a person looks.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..picture import Pixels

Plane = NDArray[np.float32]

THRESHOLD = 0.5
"""Above all of 600 clean toonworld drawings with sides from 128 to 512 (the highest: 0.49). `docs/origins.md` has what it finds."""

AREA = 320 * 320  # pixels; larger pictures are shrunk first
FINE = 1.5  # standard deviation of what is taken off, in pixels
CLIP = 3.0  # levels: edges of the drawing are no stronger than a faint mark
EVEN = 8  # standard deviation of the neighbourhood that detail is measured against
REACH = 0.7  # of a side: the largest distance
SMOOTH = 6  # of the agreement, taken off: distances in general are no peaks
PEAKS = 20
LATTICE = np.array([(i, j) for i in range(4) for j in range(-3, 4) if i > 0 or j > 0])
NEIGHBOURS = ((1, 0), (0, 1), (1, 1), (1, -1))
CAP, CHANCE = 12.0, 1.2  # of a point of a lattice; the mean of the highest of 3x3 in noise is 1.2 or so
FEWEST = 4  # points that a lattice needs inside the reach
TRIED = 4  # lattices that are checked in the picture
SHARE, TAKES_PART = 0.2, 0.03  # this quantile of the local agreement must be so high for the full value
FULL = 40.0


def tiled(pixels: Pixels) -> float:
    """0 (nothing repeats) to 1. A blank or very small picture is 0."""
    detail = _detail(pixels)
    height, width = detail.shape
    if min(height, width) < 24 or not detail.any():
        return 0.0
    peaks_yx = _agreement(detail)
    centre = np.array(peaks_yx.shape) // 2
    lattices = _lattices(peaks_yx, centre, least=max(12, min(height, width) // 12))
    best = 0.0
    for value, first, second in lattices:
        part = _takes_part(detail, peaks_yx, centre, first, second)
        best = max(best, value * min(1.0, max(part, 0.0) / TAKES_PART) ** 0.5)
    return round(min(1.0, best / FULL), 4)


def _detail(pixels: Pixels) -> Plane:
    height, width = pixels.shape[:2]
    scale = (AREA / (height * width)) ** 0.5
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
    fine = np.clip(grey - cv2.GaussianBlur(grey, (0, 0), FINE), -CLIP, CLIP)
    fine = fine / np.sqrt(cv2.GaussianBlur(fine * fine, (0, 0), EVEN) + 0.25)
    return np.asarray(fine - fine.mean(), np.float32)


def _agreement(detail: Plane) -> Plane:
    """How well the picture agrees with itself moved by (dy, dx), in robust deviations; the middle is no move.

    The square root of the power spectrum, not the spectrum: a few strong lines would drown the rest.
    """
    height, width = detail.shape
    reach_y, reach_x = int(height * REACH), int(width * REACH)
    shape = cv2.getOptimalDFTSize(height + reach_y + 1), cv2.getOptimalDFTSize(width + reach_x + 1)
    power = np.abs(np.fft.rfft2(detail, s=shape))
    sums = np.fft.fftshift(np.fft.irfft2(power, s=shape))
    y, x = shape[0] // 2, shape[1] // 2
    reach_y, reach_x = min(reach_y, y), min(reach_x, x)
    sums = sums[y - reach_y : y + reach_y + 1, x - reach_x : x + reach_x + 1]
    common_y = height - np.abs(np.arange(-reach_y, len(sums) - reach_y))
    common_x = width - np.abs(np.arange(-reach_x, sums.shape[1] - reach_x))
    sums = (sums / np.sqrt(np.outer(common_y, common_x))).astype(np.float32)
    peaks = sums - cv2.GaussianBlur(sums, (0, 0), SMOOTH)
    return np.asarray(peaks / (1.4826 * float(np.median(np.abs(peaks))) + 1e-9), np.float32)


def _lattices(peaks_yx: Plane, centre: NDArray[np.int64], *, least: int) -> list[tuple[float, np.ndarray, np.ndarray]]:
    """(value, first step, second step) of the best lattices: the sum over their points by the root of their number."""
    height, width = peaks_yx.shape
    dy, dx = np.ogrid[-centre[0] : height - centre[0], -centre[1] : width - centre[1]]
    highest = (cv2.dilate(peaks_yx, np.ones((7, 7))) == peaks_yx) & (dy * dy + dx * dx >= least * least) & (dy <= 0)
    at = np.argwhere(highest)
    at = at[np.argsort(-peaks_yx[at[:, 0], at[:, 1]], kind="stable")[:PEAKS]]
    steps = at - centre
    one, two = np.triu_indices(len(steps), 1)
    first, second = steps[one], steps[two]
    crossed = np.abs(first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0])
    apart = crossed > 0.5 * np.hypot(*first.T) * np.hypot(*second.T)  # 30 degrees
    first, second = first[apart], second[apart]
    points = LATTICE[:, 0, None] * first[:, None] + LATTICE[:, 1, None] * second[:, None] + centre
    inside = ((points >= 0) & (points < (height, width))).all(-1)
    near = cv2.dilate(peaks_yx, np.ones((3, 3)))
    values = near[points[..., 0].clip(0, height - 1), points[..., 1].clip(0, width - 1)]
    count = inside.sum(1)
    sums = np.where(inside, np.minimum(values, CAP) - CHANCE, 0).sum(1) / np.sqrt(np.maximum(count, 1))
    sums = np.where(count >= FEWEST, sums, 0)
    order = np.argsort(-sums, kind="stable")[:TRIED]
    return [(float(sums[k]), first[k], second[k]) for k in order if sums[k] > 0]


def _takes_part(
    detail: Plane, peaks_yx: Plane, centre: NDArray[np.int64], first: np.ndarray, second: np.ndarray
) -> float:
    """A low quantile of how well each part of the picture agrees with the mean of its neighbours on the lattice."""
    height, width = detail.shape
    mean, count = np.zeros_like(detail), np.zeros_like(detail)
    for i, j in NEIGHBOURS:
        step = i * first + j * second
        if (np.abs(step) >= centre).any() or (np.abs(step) >= np.array(detail.shape) - 8).any():
            continue
        y, x = centre + step
        around = peaks_yx[y - 1 : y + 2, x - 1 : x + 2]
        step = step + np.array(np.unravel_index(int(np.argmax(around)), around.shape)) - 1
        for dy, dx in (step, -step):
            to_y, to_x = slice(max(0, -dy), min(height, height - dy)), slice(max(0, -dx), min(width, width - dx))
            from_y, from_x = slice(max(0, dy), min(height, height + dy)), slice(max(0, dx), min(width, width + dx))
            mean[to_y, to_x] += detail[from_y, from_x]
            count[to_y, to_x] += 1
    mean /= np.maximum(count, 1)
    spans = np.abs(first) + np.abs(second)
    side = int(min(0.6 * max(int(spans.max()), 16), min(height, width) // 2)) | 1

    def over(plane: Plane) -> Plane:
        return np.asarray(cv2.blur(plane, (side, side), borderType=cv2.BORDER_REFLECT))

    agrees = over(detail * mean) / np.sqrt(over(detail * detail) * over(mean * mean) + 4e-4)
    return float(np.quantile(agrees[::4, ::4], SHARE))

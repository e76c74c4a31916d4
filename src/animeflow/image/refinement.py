"""The last fraction of a pixel of an alignment: scale and shift fitted to how the picture flows. Knows an overlay."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from .alignment import Placement
from .difference import Overlay

FAR = 8.0  # pixels; a flow that goes farther has lost its way
ENOUGH = 0.6  # pixels; blocks may lie so far beside their place anyway
POINTS = 4000
EDGE = 24.0  # of the gradient where a flow means something


def refined(placement: Placement, over: Overlay) -> Placement:
    """The placement with its scale and shift mended; the same one where there is too little to go by."""
    finer_first = placement.scale_x <= 1
    laid, base = (over.a, over.b) if finer_first else (over.b, over.a)
    grey, onto = (cv2.cvtColor(p, cv2.COLOR_RGB2GRAY) for p in (laid, base))
    if min(grey.shape) < 48:
        return placement
    flow_HW2 = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST).calc(grey, onto, None)  # type: ignore[attr-defined]
    slope_x, slope_y = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    area = over.frame & over.ink_a & over.ink_b & (np.abs(flow_HW2).max(2) < FAR)
    fit_x = _line(flow_HW2[..., 0], np.abs(slope_x) / 4, area, axis=1)
    fit_y = _line(flow_HW2[..., 1], np.abs(slope_y) / 4, area, axis=0)
    if fit_x is None or fit_y is None:
        return placement
    (sx, tx), (sy, ty) = fit_x, fit_y
    height, width = grey.shape
    corners = [abs((s - 1) * side + t) for s, t, length in ((sx, tx, width), (sy, ty, height)) for side in (0, length)]
    if max(corners) < ENOUGH:
        return placement
    if finer_first:
        return replace(
            placement,
            scale_x=sx * placement.scale_x,
            scale_y=sy * placement.scale_y,
            x=sx * placement.x + tx,
            y=sy * placement.y + ty,
        )
    return replace(
        placement,
        scale_x=placement.scale_x / sx,
        scale_y=placement.scale_y / sy,
        x=placement.x - placement.scale_x * tx / sx,
        y=placement.y - placement.scale_y * ty / sy,
    )


def _line(
    flow: NDArray[np.float32], slope: NDArray[np.float32], area: NDArray[np.bool_], *, axis: int
) -> tuple[float, float] | None:
    """(s, t) of: place + flow = s * place + t, by least squares over what most points agree on."""
    rows, columns = np.nonzero(area & (slope > EDGE))
    if len(rows) < 64:
        return None
    chosen = np.linspace(0, len(rows) - 1, min(POINTS, len(rows))).astype(int)
    rows, columns = rows[chosen], columns[chosen]
    place, moved = (columns if axis else rows).astype(np.float64), flow[rows, columns].astype(np.float64)
    middle = place.mean()
    rate, shift, kept = 0.0, float(np.median(moved)), np.ones(len(place), bool)
    for room in (3.0, 1.5, 0.75, 0.5):
        kept = np.abs(moved - rate * (place - middle) - shift) < room
        if kept.sum() < 48 or float(np.ptp(place[kept])) < 24:
            return None
        rate, shift = np.polyfit(place[kept] - middle, moved[kept], 1)
    if kept.mean() < 0.3 or abs(rate) > 0.05:
        return None
    return 1 + float(rate), float(shift - rate * middle)

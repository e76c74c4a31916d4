"""Panels of a comic page, by the gutters between them. Knows pixels; reads no text and knows no order but rows.

The gutter is what has the page's paper colour and hangs together from the page's edge. A panel is what it encloses; the white
inside a framed panel is no gutter, since the frame keeps it apart. A panel that bleeds off the page is bounded by the page's edge.
"""

from __future__ import annotations

import cv2
import numpy as np

from .decode import decode
from .encode import encode_png
from .picture import BadPicture, Limits, Pixels

PAPERS = (255, 0)  # white, and black for memories and dreams
TOLERANCE = 16
MIN_SHARE = 0.015  # of the page, for a panel
MIN_SIDE_SHARE = 0.08  # of the page's side
MIN_COVER = 0.4  # of the page that its panels cover, for the page to be one
MIN_FILL = 0.82  # of its box that a panel fills, slanted ones too; a figure or a word on blank paper fills less
SIDE_DEPTH, MIN_SIDE_LINE = 0.03, 0.85  # of the side, where a frame may wobble, and how much of it has a line
MAX_PANELS = 40
MIN_GUTTER, MIN_GUTTER_SHARE = (
    3,
    0.006,
)  # pixels, and of the shorter side: a frame is thinner, and is no gutter of the other colour
Box = tuple[int, int, int, int]  # x, y, width, height


def panels_of_page(
    data: bytes, *, limits: Limits | None = None, right_to_left: bool = False
) -> list[tuple[Box, bytes]]:
    """Panels of a page file as PNG with their boxes, in reading order; none where it is no page or no picture."""
    try:
        page = decode(data, limits=limits).pixels
    except BadPicture:
        return []  # the catalogue says what is wrong with it
    boxes = find_panels(page, right_to_left=right_to_left)
    return [((x, y, w, h), encode_png(np.ascontiguousarray(page[y : y + h, x : x + w]))) for x, y, w, h in boxes]


def find_panels(page_HW3: Pixels, *, right_to_left: bool = False) -> list[Box]:
    """Boxes of two or more panels, in reading order; none where the page has fewer."""
    grounds = [_panels(page_HW3, paper) for paper in PAPERS]
    boxes = max(grounds, key=lambda found: sum(w * h for _, _, w, h in found))
    return reading_order(boxes, right_to_left=right_to_left)


def _panels(page_HW3: Pixels, paper: int) -> list[Box]:
    height, width = page_HW3.shape[:2]
    low, high = max(0, paper - TOLERANCE), min(255, paper + TOLERANCE)
    ground = cv2.inRange(page_HW3, (low, low, low), (high, high, high)) > 0
    gutter = _gutter(ground)
    if gutter is None:
        return []
    number, labels, stats, _ = cv2.connectedComponentsWithStats((~gutter).astype(np.uint8), connectivity=8)
    kept: list[Box] = []
    for at in range(1, number):
        x, y, w, h, area = (int(value) for value in stats[at])
        large = w * h >= MIN_SHARE * width * height and w >= MIN_SIDE_SHARE * width and h >= MIN_SIDE_SHARE * height
        if large and (area >= MIN_FILL * w * h or _framed(labels[y : y + h, x : x + w] == at)):
            kept.append((x, y, w, h))
    kept = [box for box in kept if not any(_inside(box, other) for other in kept if other != box)]
    covered = sum(w * h for _, _, w, h in kept)
    if not 2 <= len(kept) <= MAX_PANELS or covered < MIN_COVER * width * height:
        return []
    return kept


def _framed(panel_HW: np.ndarray) -> bool:
    """Whether three of four sides have a line along nearly all of them: paper may come in where somebody leans out of a frame."""
    depth = max(2, round(SIDE_DEPTH * min(panel_HW.shape)))
    top, bottom = panel_HW[:depth].any(axis=0).mean(), panel_HW[-depth:].any(axis=0).mean()
    left, right = panel_HW[:, :depth].any(axis=1).mean(), panel_HW[:, -depth:].any(axis=1).mean()
    return bool(sorted((top, bottom, left, right))[1] >= MIN_SIDE_LINE)


def _gutter(ground_HW: np.ndarray) -> np.ndarray | None:
    """The paper that hangs together from the edges; thin cracks in a drawing do not let it in. None where there is none."""
    size = max(
        MIN_GUTTER, 2 * round(MIN_GUTTER_SHARE * min(ground_HW.shape) / 2) + 1
    )  # odd: an even one shifts the picture
    kernel = np.ones((size, size), np.uint8)
    # The page ends where its paper would go on: so a gutter along the edge is as wide as it looks.
    framed = cv2.copyMakeBorder(ground_HW.astype(np.uint8), size, size, size, size, cv2.BORDER_REPLICATE)
    wide = cv2.morphologyEx(framed, cv2.MORPH_OPEN, kernel)[size:-size, size:-size]
    number, labels = cv2.connectedComponents(wide, connectivity=4)
    edges = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    outside = np.unique(edges[edges > 0])
    if number < 2 or not len(outside):
        return None
    connected = np.zeros(number, bool)
    connected[outside] = True
    return connected[labels]


def _inside(box: Box, other: Box) -> bool:
    """Whether most of a box lies in another, larger one."""
    x, y, w, h = box
    a, b, c, d = other
    across, down = min(x + w, a + c) - max(x, a), min(y + h, b + d) - max(y, b)
    return w * h <= c * d and across > 0 and down > 0 and across * down > 0.8 * w * h


def reading_order(boxes: list[Box], *, right_to_left: bool = False) -> list[Box]:
    """Rows from above, and in a row from the left, or from the right as in Japan. A row is what stands beside its highest panel."""
    left = sorted(boxes, key=lambda box: box[1])
    order: list[Box] = []
    while left:
        _, top, _, height = left[0]
        row = [box for box in left if box[1] < top + height / 2]
        order += sorted(row, key=lambda box: -box[0] - box[2] if right_to_left else box[0])
        left = [box for box in left if box not in row]
    return order

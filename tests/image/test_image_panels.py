"""Panels of drawn pages are found to the pixel, framed or not, with white or black gutters, bleeding off the page or slanted."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from animeflow.image.decode import decode
from animeflow.image.encode import encode_png
from animeflow.image.panels import find_panels, panels_of_page

Box = tuple[int, int, int, int]
H, W = 900, 640


def art(height: int, width: int, seed: int, *, paper: int = 255) -> np.ndarray:
    """A drawing with large blank areas, as comics have: lines, blobs, a balloon."""
    draw = np.random.default_rng(seed)
    canvas = np.full((height, width, 3), draw.integers(60, 200, 3), np.uint8)
    cv2.rectangle(canvas, (width // 8, height // 8), (width * 7 // 8, height * 7 // 8), (paper,) * 3, -1)
    for _ in range(12):
        a, b = (tuple(int(v) for v in draw.integers(0, [width, height])) for _ in range(2))
        cv2.line(canvas, a, b, tuple(int(v) for v in draw.integers(0, 255, 3)), 3)
    cv2.ellipse(canvas, (width // 3, height // 3), (width // 6, height // 8), 0, 0, 360, (255, 255, 255), -1)
    return canvas


def page(boxes: list[Box], *, paper: int = 255, frame: int | None = 0, seed: int = 0) -> np.ndarray:
    canvas = np.full((H, W, 3), paper, np.uint8)
    for number, (x, y, w, h) in enumerate(boxes):
        canvas[y : y + h, x : x + w] = art(h, w, seed * 100 + number, paper=paper)
        if frame is not None:
            cv2.rectangle(canvas, (x, y), (x + w - 1, y + h - 1), (frame,) * 3, 3)
    return canvas


def clipped(canvas: np.ndarray, boxes: list[Box], paper: int) -> np.ndarray:
    """Frames are drawn over the edge by half their width: cut them back, so that the truth is exact."""
    keep = np.zeros(canvas.shape[:2], bool)
    for x, y, w, h in boxes:
        keep[y : y + h, x : x + w] = True
    return np.where(keep[:, :, None], canvas, np.uint8(paper))


def overlap(a: Box, b: Box) -> float:
    across = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    down = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    inside = max(0, across) * max(0, down)
    return inside / (a[2] * a[3] + b[2] * b[3] - inside)


GRID = [(20, 20, 290, 270), (326, 20, 294, 270), (20, 306, 600, 250), (20, 572, 190, 308), (226, 572, 394, 308)]
PINWHEEL = [(20, 20, 400, 300), (436, 20, 184, 500), (20, 336, 190, 544), (226, 536, 394, 344), (226, 336, 194, 184)]
BLEED = [(0, 0, 640, 290), (20, 306, 300, 280), (336, 306, 304, 280), (0, 602, 640, 298)]
PAGES = {"grid": GRID, "pinwheel": PINWHEEL, "bleed": BLEED, "strip": [(40, 30 + 215 * i, 560, 200) for i in range(4)]}


@pytest.mark.parametrize("frame", [3, None])
@pytest.mark.parametrize("paper", [255, 0])
@pytest.mark.parametrize("name", PAGES)
def test_panels_of_a_page_are_found_to_the_pixel(name, paper, frame):
    truth = PAGES[name]
    edge = None if frame is None else 255 - paper
    canvas = clipped(page(truth, paper=paper, frame=edge), truth, paper)
    found = find_panels(canvas)
    assert len(found) == len(truth)
    for box in truth:
        assert max(overlap(box, each) for each in found) >= 0.97


def test_a_page_saved_as_jpeg_has_the_same_panels():
    canvas = clipped(page(GRID, frame=0), GRID, 255)
    data = cv2.imencode(".jpg", canvas[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()
    found = panels_of_page(data)
    assert len(found) == 5 and all(max(overlap(box, each) for each, _ in found) >= 0.95 for box in GRID)
    for (x, y, w, h), png in found:
        assert np.array_equal(decode(png).pixels, decode(data).pixels[y : y + h, x : x + w])


def test_a_page_number_and_a_slanted_gutter():
    canvas = np.full((H, W, 3), 255, np.uint8)
    above = np.array([[20, 20], [619, 20], [619, 380], [20, 480]])
    below = np.array([[20, 500], [619, 400], [619, 860], [20, 860]])
    for polygon in (above, below):
        cv2.fillPoly(canvas, [polygon], (120, 90, 160))
        cv2.polylines(canvas, [polygon], True, (0, 0, 0), 3)
    cv2.putText(canvas, "17", (310, 888), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 0, 0), 1)
    found = find_panels(canvas)
    truth = [(19, 19, 602, 462), (19, 399, 602, 462)]
    assert len(found) == 2 and all(max(overlap(box, each) for each in found) >= 0.97 for box in truth)


def test_somebody_leaning_out_of_a_frame_keeps_the_panel():
    canvas = np.full((H, W, 3), 255, np.uint8)
    for y in (20, 460):
        cv2.rectangle(canvas, (20, y), (619, y + 419), (0, 0, 0), 4)
    canvas[872:890, 250:500] = 255  # the frame is open below
    cv2.ellipse(canvas, (420, 700), (90, 170), 0, 0, 360, (90, 120, 200), -1)
    found = find_panels(canvas)
    assert len(found) == 2 and all(
        max(overlap(box, each) for each in found) >= 0.97 for box in ((18, 18, 604, 424), (18, 458, 604, 424))
    )


def test_panels_come_in_the_order_of_reading():
    canvas = clipped(page(GRID), GRID, 255)
    assert [box[:2] for box in find_panels(canvas)] == [box[:2] for box in GRID]
    order = [GRID[1], GRID[0], GRID[2], GRID[4], GRID[3]]
    assert [box[:2] for box in find_panels(canvas, right_to_left=True)] == [box[:2] for box in order]


@pytest.mark.parametrize("kind", ["illustration", "white", "one panel", "figure", "sticker"])
def test_what_is_no_page_stays_whole(kind):
    canvas = np.full((H, W, 3), 255, np.uint8)
    if kind == "illustration":
        canvas = art(H, W, 5)
    elif kind == "one panel":
        canvas[20:-20, 20:-20] = art(H - 40, W - 40, 6)
    elif kind == "figure":
        cv2.ellipse(canvas, (320, 450), (120, 300), 0, 0, 360, (40, 60, 90), -1)
        cv2.circle(canvas, (80, 80), 40, (200, 0, 0), -1)
    elif kind == "sticker":  # two figures and a word
        for x in (160, 480):
            cv2.ellipse(canvas, (x, 560), (120, 300), 0, 0, 360, (40, 60, 90), -1)
        cv2.putText(canvas, "HELLO!", (60, 190), cv2.FONT_HERSHEY_SIMPLEX, 5, (200, 0, 0), 40)
    assert find_panels(canvas) == [] and panels_of_page(encode_png(canvas)) == []


def test_no_picture_has_no_panels():
    assert panels_of_page(b"no picture") == []

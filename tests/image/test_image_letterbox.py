"""Black bars come off to the pixel, and a dark picture keeps its rows."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from animeflow.image.letterbox import Letterbox


def scene(height: int, width: int, seed: int) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def crop_of(frames: list[np.ndarray]) -> tuple[int, int, int, int]:
    box = Letterbox(*frames[0].shape[:2])
    for frame in frames:
        box.see(frame)
    return box.crop()


@pytest.mark.parametrize(
    "bars", [(0, 0, 0, 0), (17, 17, 0, 0), (0, 0, 23, 24), (9, 12, 5, 0), (1, 1, 1, 1), (40, 0, 0, 0)]
)
@pytest.mark.parametrize("quality", [None, 90])
def test_bars_come_off_to_the_pixel(bars, quality):
    above, below, left, right = bars
    frames = []
    for seed in range(6):
        frame = np.zeros((120, 160, 3), np.uint8)
        frame[above : 120 - below, left : 160 - right] = scene(120 - above - below, 160 - left - right, seed)
        if quality:
            frame = cv2.imdecode(cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
        frames.append(frame)
    assert crop_of(frames) == (above, 120 - below, left, 160 - right)


def test_dark_frames_among_others_take_nothing_away():
    frames = [scene(90, 120, seed) for seed in range(3)]
    night = frames[0].copy()
    night[:30] = 4
    assert crop_of([night, np.zeros_like(night), *frames]) == (0, 90, 0, 120)


def test_nothing_but_dark_stays_whole():
    assert crop_of([np.full((90, 120, 3), 9, np.uint8)] * 3) == (0, 90, 0, 120)


def test_a_bright_speck_in_a_bar_is_no_picture():
    frames = []
    for seed in range(4):
        frame = np.zeros((120, 160, 3), np.uint8)
        frame[20:100] = scene(80, 160, seed)
        frame[5, 3:7] = 255  # a station's mark, smaller than a twentieth of the row
        frames.append(frame)
    assert crop_of(frames) == (20, 100, 0, 160)

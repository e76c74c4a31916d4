"""Repeated half-transparent marks over drawings are found; the drawings alone are not."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from animeflow.image.decode import decode
from animeflow.image.encode import encode_png
from animeflow.image.evidence.screen import measures
from animeflow.image.evidence.tiled import THRESHOLD, tiled
from animeflow.image.header import read_header
from animeflow.image.picture import Limits
from animeflow.toonworld import draw, world

COUNT = 40


def drawing(index: int) -> np.ndarray:
    height, width = (int(side) * 32 for side in np.random.default_rng([4, index]).integers(6, 14, 2))
    return draw.draw(world.sample_scene(40, index), height, width, layers=False).pixels


def mark(rng: np.random.Generator, width: float) -> np.ndarray:
    """How opaque the mark is, float `[h, w]`: letters, or a ring with a cross."""
    if rng.random() < 0.6:
        word = ("SAMPLE", "@artist", "preview")[rng.integers(3)]
        (w, h), low = cv2.getTextSize(word, cv2.FONT_HERSHEY_DUPLEX, 1.0, 2)
        stamp = np.zeros((h + low + 4, w + 4), np.uint8)
        cv2.putText(stamp, word, (2, h + 2), cv2.FONT_HERSHEY_DUPLEX, 1.0, 255, 2, cv2.LINE_AA)
    else:
        stamp = np.zeros((64, 64), np.uint8)
        cv2.circle(stamp, (32, 32), 28, 255, 5, cv2.LINE_AA)
        cv2.line(stamp, (16, 32), (48, 32), 255, 5, cv2.LINE_AA)
        cv2.line(stamp, (32, 8), (32, 40), 255, 5, cv2.LINE_AA)
        width *= 0.5
    scale = width / stamp.shape[1]
    return cv2.resize(stamp, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def marked(pixels: np.ndarray, seed: int, *, opacity: tuple[float, float] = (0.25, 0.5)) -> np.ndarray:
    """A mark in rows, every other row shifted or not, turned by any angle."""
    rng = np.random.default_rng([9, seed])
    height, width = pixels.shape[:2]
    step = max(40.0, min(height, width) * rng.uniform(1 / 7, 1 / 4))
    stamp = mark(rng, 0.8 * step)
    side = int(np.hypot(height, width) + 2 * step)
    layer, down, shift = np.zeros((side, side), np.float32), step * rng.uniform(0.6, 1.0), rng.choice((0.0, 0.5))
    for row, y in enumerate(np.arange(0, side - stamp.shape[0] - 1, max(down, stamp.shape[0] + 2))):
        for x in np.arange(row % 2 * shift * step, side - stamp.shape[1] - 1, step):
            layer[int(y) : int(y) + stamp.shape[0], int(x) : int(x) + stamp.shape[1]] = stamp
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), float(rng.choice((0, 30, -30, rng.uniform(-45, 45)))), 1)
    layer = cv2.warpAffine(layer, turn, (side, side))
    top, left = (side - height) // 2, (side - width) // 2
    share = layer[top : top + height, left : left + width, None] * rng.uniform(*opacity)
    colour = 255.0 if pixels.mean() < 150 else 0.0
    return (pixels * (1 - share) + colour * share).round().astype(np.uint8)


@pytest.fixture(scope="module")
def drawings() -> list[np.ndarray]:
    return [drawing(index) for index in range(COUNT)]


def test_clean_drawings_give_no_alarm(drawings):
    assert max(tiled(pixels) for pixels in drawings) < THRESHOLD


def test_a_planted_mark_is_found(drawings):
    found = sum(tiled(marked(pixels, seed)) >= THRESHOLD for seed, pixels in enumerate(drawings))
    assert found >= 0.95 * COUNT


def test_one_mark_alone_is_no_repetition(drawings):
    for pixels in drawings[:6]:
        once = pixels.copy()
        cv2.putText(once, "SAMPLE", (10, 60), cv2.FONT_HERSHEY_DUPLEX, 1.0, (255, 255, 255), 2, cv2.LINE_AA)
        assert tiled(once) < THRESHOLD


def test_the_screen_measures_the_decoded_picture(drawings):
    pixels = marked(drawings[0], 0)
    assert measures(decode(encode_png(pixels))) == (("tiled", tiled(pixels)),)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (23, 23), (24, 900), (64, 64)])
def test_blank_noisy_and_odd_pictures_give_a_value(shape):
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    for pixels in (np.zeros((*shape, 3), np.uint8), np.full((*shape, 3), 255, np.uint8), noise):
        assert 0.0 <= tiled(pixels) < THRESHOLD


def test_the_value_is_a_function_of_the_pixels(drawings):
    pixels = marked(drawings[3], 3)
    assert tiled(pixels) == tiled(pixels.copy())


def test_real_pictures_rarely_look_marked(test_data):
    paths = sorted(path for path in (test_data / "images").rglob("*") if path.suffix in (".png", ".jpg", ".webp"))
    values = {}
    for path in paths[::2]:
        data = path.read_bytes()
        header = read_header(data, Limits())
        if (header.height or 0) * (header.width or 0) <= 600_000:
            values[path.name] = tiled(decode(data).pixels)
    assert len(values) > 20
    assert [name for name, value in values.items() if value >= THRESHOLD] == []

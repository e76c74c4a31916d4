"""A fingerprint is equal for equal pictures, packs without loss, and finds crops and copies by what they share."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from animeflow.image.decode import decode
from animeflow.image.encode import encode_png
from animeflow.image.fingerprint import Fingerprint, fingerprint
from animeflow.image.landmarks import shared
from animeflow.image.picture import Picture
from animeflow.toonworld.dataset import World


def picture(pixels: np.ndarray) -> Picture:
    return decode(encode_png(np.ascontiguousarray(pixels)))


@pytest.fixture(scope="module")
def drawn() -> list[np.ndarray]:
    world = World(seed=3, sizes=((256, 256),))
    return [world.drawing(index).pixels for index in range(6)]


def test_packing_is_undone_by_unpacking(drawn):
    for pixels in drawn[:3]:
        found = fingerprint(picture(pixels))
        packed = found.pack()
        assert Fingerprint.unpack(packed).pack() == packed
        assert len(packed) < 1500
        with pytest.raises(ValueError):
            Fingerprint.unpack(packed[:-1])
        with pytest.raises(ValueError):
            Fingerprint.unpack(bytes([packed[0] + 1]) + packed[1:])


def test_one_pixel_changes_the_pixel_hash_and_nothing_else_does(drawn):
    pixels = drawn[0].copy()
    before = fingerprint(picture(pixels)).pixels
    assert fingerprint(Picture(pixels.copy(), picture(pixels).facts)).pixels == before
    pixels[7, 9, 1] ^= 1
    assert fingerprint(picture(pixels)).pixels != before
    alpha = np.full(pixels.shape[:2], 200, np.uint8)
    assert fingerprint(Picture(pixels, picture(pixels).facts, alpha)).pixels != fingerprint(picture(pixels)).pixels


def test_equal_bytes_in_another_shape_are_another_picture(drawn):
    assert fingerprint(picture(drawn[0])).pixels != fingerprint(picture(drawn[0].reshape(128, 512, 3))).pixels


@pytest.mark.parametrize("scale", [0.5, 0.8, 1.3])
def test_a_resized_crop_keeps_its_landmarks(drawn, scale):
    for pixels in drawn:
        part = pixels[20:230, 30:240]
        part = cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        a, b = (fingerprint(picture(p)).landmarks for p in (pixels, part))
        assert shared(a, b) >= 12
        scrambled = b.copy()
        scrambled["x"], scrambled["y"] = np.random.default_rng(0).integers(
            0, 256, (2, len(b))
        )  # the same spots elsewhere
        assert shared(a, scrambled) < shared(a, b) / 2


def test_flat_pictures_have_a_fingerprint():
    for value in (0, 255):
        found = fingerprint(picture(np.full((40, 60, 3), value, np.uint8)))
        assert len(found.landmarks) == 0
        assert Fingerprint.unpack(found.pack()).height == 40

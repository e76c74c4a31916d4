"""A fingerprint is equal for equal pictures, packs without loss, and finds crops and copies by what they share."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from animeflow.image.decode import decode
from animeflow.image.encode import encode_png
from animeflow.image.fingerprint import Fingerprint, fingerprint, looks_mirrored
from animeflow.image.landmarks import mirrored, shared
from animeflow.image.perceptual import odd_columns
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


def test_the_mirrored_fingerprint_follows_from_the_plain_one(drawn):
    """Against the fingerprint of the picture that was really mirrored."""
    for pixels in drawn:
        a, b = (fingerprint(picture(p)) for p in (pixels, pixels[:, ::-1]))
        assert (a.whole ^ b.whole ^ odd_columns()).bit_count() <= 6
        assert (a.whole ^ b.whole).bit_count() > 16
        found, seen = mirrored(a.landmarks), b.landmarks
        assert shared(found, seen) >= max(0.7 * len(seen), 2 * shared(a.landmarks, seen))
        same_place = [np.flatnonzero((abs(seen["x"].astype(int) - x) < 2) & (seen["y"] == y)) for _, x, y, _ in found]
        bits = [np.bitwise_count(seen["code"][k] ^ found["code"][n]).min() for n, k in enumerate(same_place) if len(k)]
        assert len(bits) > 0.6 * len(seen) and np.median(bits) <= 8
        again = mirrored(found)
        assert all((again[name] == a.landmarks[name]).all() for name in again.dtype.names)


def test_a_look_in_the_mirror_is_for_mirrored_pictures_only(drawn):
    prints = [fingerprint(picture(p)) for p in drawn]
    for pixels, plain in zip(drawn, prints, strict=True):
        turned = cv2.resize(
            np.ascontiguousarray(pixels[10:240, ::-1]), None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA
        )
        assert looks_mirrored(plain, fingerprint(picture(turned)))
        assert not looks_mirrored(plain, plain)
        symmetric = np.concatenate([pixels, pixels[:, ::-1]], 1)
        one, other = (fingerprint(picture(p)) for p in (symmetric, cv2.GaussianBlur(symmetric, (0, 0), 0.8)))
        assert not looks_mirrored(one, other), "as much alike as it stands"

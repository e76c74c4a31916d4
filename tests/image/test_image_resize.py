"""One resize, one crop, inside the picture."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from animeflow.image.bucket import Bucket
from animeflow.image.decode import BadPicture
from animeflow.image.encode import encode_png
from animeflow.image.resize import fit, plan_crop


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * 10_000 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(("height", "width"), [(300, 200), (200, 300), (128, 257), (129, 128), (640, 128)])
def test_equals_one_area_resize_and_a_centre_cut(height, width):
    bucket = Bucket(128, 96)
    pixels, crop = fit(noise(height, width), bucket)
    scale = max(128 / height, 96 / width)
    tall, wide = max(128, round(height * scale)), max(96, round(width * scale))
    whole = cv2.resize(noise(height, width), (wide, tall), interpolation=cv2.INTER_AREA)
    top, left = (tall - 128) // 2, (wide - 96) // 2
    assert np.array_equal(pixels, whole[top : top + 128, left : left + 96])
    assert (crop.resized_height, crop.resized_width, crop.top, crop.left) == (tall, wide, top, left)
    assert pixels.flags.c_contiguous


def test_the_same_size_is_not_touched():
    pixels = noise(128, 96)
    assert fit(pixels, Bucket(128, 96))[0] is pixels


def test_a_covering_picture_is_cut_without_resampling():
    pixels = noise(128, 120)
    assert np.array_equal(fit(pixels, Bucket(128, 96))[0], pixels[:, 12:108])


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 4000), st.integers(1, 4000), st.integers(1, 128), st.integers(1, 128))
def test_the_crop_lies_inside_and_touches_two_sides(height, width, rows, columns):
    bucket = Bucket(rows * 16, columns * 16)
    crop = plan_crop(height, width, bucket)
    assert 0 <= crop.top <= crop.resized_height - bucket.height
    assert 0 <= crop.left <= crop.resized_width - bucket.width
    assert crop.resized_height == bucket.height or crop.resized_width == bucket.width
    enough = max(bucket.height / height, bucket.width / width)
    assert (
        abs(crop.resized_height - height * enough) <= 0.5 + 1e-6
        and abs(crop.resized_width - width * enough) <= 0.5 + 1e-6
    )


def test_enlarging_has_to_be_allowed():
    small = noise(100, 100)
    with pytest.raises(BadPicture, match="too_small") as caught:
        fit(small, Bucket(128, 128))
    assert caught.value.reason == "too_small"
    assert "1.28" in caught.value.detail
    pixels, crop = fit(small, Bucket(128, 128), max_upscale=1.3)
    assert pixels.shape == (128, 128, 3)
    assert crop.as_dict() == {
        "source_height": 100, "source_width": 100, "resized_height": 128, "resized_width": 128, "top": 0, "left": 0
    }  # fmt: skip


def test_png_needs_rgb_bytes():
    with pytest.raises(ValueError, match="uint8"):
        encode_png(np.zeros((4, 4, 3), np.float32))

"""Thumbnails are small and near the picture; they are never larger than it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from animeflow.image.thumbnail import thumbnail


@pytest.mark.parametrize(("size", "expected"), [((96, 80), (96, 80)), ((800, 400), (192, 96)), ((4, 1000), (1, 192))])
def test_the_longer_side_is_cut_and_nothing_grows(size, expected):
    yy, xx = np.mgrid[: size[0], : size[1]]
    picture = np.stack([yy * 255 // size[0], xx * 255 // size[1], np.full(size, 90)], axis=2).astype(np.uint8)
    data = thumbnail(picture)
    back = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    assert data[:4] == b"RIFF"
    assert data[8:12] == b"WEBP"
    assert back.shape == (*expected, 3)
    assert abs(back.reshape(-1, 3).mean(0) - picture.reshape(-1, 3).mean(0)).max() < 4

"""Landmarks of a picture: spots that survive scale, crop and another background, each with a code of 64 signs.

Knows a small grey picture.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .perceptual import Grey, odd_columns, zigzag

COUNT = 96
PATCH = 16  # pixels a side of what a code is made of
REACH = 3.0  # half a patch, in diameters of the spot
NEAR = 12  # bits of 64 by which two codes of one spot may differ
SIZE_STEPS = 4  # sizes are kept in quarters of a pixel

LANDMARK = np.dtype([("code", "<u8"), ("x", "u1"), ("y", "u1"), ("size", "u1")])
"""In pixels of the small copy, whose sides are at most 256, and `size` in quarters of them."""

Landmarks = NDArray[np.void]  # [N] of LANDMARK


def landmarks(grey: Grey) -> Landmarks:
    """Strongest first; fewer where a picture is flat."""
    spots = [p for p in _detector().detect(grey, None) if p.size * REACH * 2 < 1.5 * max(grey.shape)]
    seen: dict[tuple[float, float, float], None] = {}
    for spot in sorted(spots, key=lambda p: (-p.response, p.pt, p.size)):  # a spot is found once per direction
        seen.setdefault((*spot.pt, spot.size))
    places = np.array(list(seen)[:COUNT], np.float32).reshape(-1, 3)
    found = np.zeros(len(places), LANDMARK)
    found["x"], found["y"] = np.round(places[:, :2].T).clip(0, 255)
    found["size"] = np.round(places[:, 2] * SIZE_STEPS).clip(1, 255)
    found["code"] = _codes(grey, places)
    return found


def mirrored(spots: Landmarks) -> Landmarks:
    """Those of the mirrored picture, but for a shift: a code's signs of odd columns turn, and places run from the other side."""
    turned = spots.copy()
    turned["code"] ^= np.uint64(odd_columns())
    turned["x"] = 255 - turned["x"]
    return turned


def shared(a: Landmarks, b: Landmarks) -> int:
    """How many landmarks of two pictures are the same and lie alike: most that agree on one scale and one shift."""
    if len(a) < 2 or len(b) < 2:
        return 0
    bits_NM = np.bitwise_count(a["code"][:, None] ^ b["code"][None])
    nearest_N = bits_NM.argmin(1)
    rows = np.flatnonzero(bits_NM.min(1) <= NEAR)
    rows = rows[bits_NM.argmin(0)[nearest_N[rows]] == rows]
    if len(rows) < 2:
        return len(rows)
    one, two = a[rows], b[nearest_N[rows]]
    scale_K = np.log2(two["size"].astype(np.float32) / one["size"])
    at_K2 = np.stack([one["x"], one["y"]], 1).astype(np.float32)
    to_K2 = np.stack([two["x"], two["y"]], 1).astype(np.float32)
    guess_KK2 = to_K2[:, None] + np.exp2(scale_K)[:, None, None] * (at_K2[None] - at_K2[:, None])
    off_KK = np.abs(guess_KK2 - to_K2[None]).max(2)
    agrees_KK = (off_KK < 16) & (np.abs(scale_K[:, None] - scale_K[None]) < 0.4)
    return int(agrees_KK.sum(1).max())


@lru_cache(maxsize=1)
def _detector() -> cv2.SIFT:
    return cv2.SIFT_create(nfeatures=0, nOctaveLayers=3, contrastThreshold=0.03)  # type: ignore[attr-defined]


@lru_cache(maxsize=1)
def _basis() -> NDArray[np.float32]:
    """The cosines of a patch's frequencies, lowest first."""
    return np.asarray(cv2.dct(np.eye(PATCH, dtype=np.float32), flags=cv2.DCT_ROWS).T, np.float32)


def _codes(grey: Grey, places_N3: NDArray[np.float32]) -> NDArray[np.uint64]:
    """Signs of the low frequencies of the patch around every spot, upright: people do not turn pictures."""
    reach_N = places_N3[:, 2] * REACH
    step_N = 2 * reach_N / PATCH
    layer_N = np.digitize(step_N, (1.6, 3.2))  # a coarse patch is read from a blurred picture
    steps = np.linspace(-1, 1, PATCH, dtype=np.float32)
    patches_NPP = np.zeros((len(places_N3), PATCH, PATCH), np.float32)
    for layer, sigma in enumerate((0.0, 1.5, 3.0)):
        chosen = np.flatnonzero(layer_N == layer)
        if not len(chosen):
            continue
        picture = cv2.GaussianBlur(grey, (0, 0), sigma) if sigma else grey
        xs = places_N3[chosen, 0, None, None] + reach_N[chosen, None, None] * steps[None, None, :]
        ys = places_N3[chosen, 1, None, None] + reach_N[chosen, None, None] * steps[None, :, None]
        shape = (len(chosen), PATCH, PATCH)
        maps: list[Any] = [np.broadcast_to(m, shape).reshape(-1, PATCH).astype(np.float32) for m in (xs, ys)]
        read = cv2.remap(picture, maps[0], maps[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        patches_NPP[chosen] = read.reshape(shape)
    rows, columns = zigzag(64)
    low_N64 = (_basis() @ patches_NPP @ _basis().T)[:, rows, columns]
    return np.packbits(np.ascontiguousarray(low_N64) > 0, axis=1).view(">u8")[:, 0].astype(np.uint64)

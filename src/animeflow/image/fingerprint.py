"""What a picture looks like in a few hundred bytes: equal pixels, and likeness that survives re-encoding, scale, crop and another
background. Knows one picture. A near fingerprint makes a candidate, never a verdict: `likeness` looks at the pictures."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

import cv2
import numpy as np

from .landmarks import LANDMARK, Landmarks, landmarks, mirrored, shared
from .perceptual import content_box, odd_columns, phash, shrunk
from .picture import Picture

VERSION = 2
"""Raise it when the same picture would give other bytes."""

SIDE = 256
"""Longer side of the copy that everything but the pixel hash is read from."""

NEAR = 6
"""Bits of 64 by which two perceptual hashes of one drawing may differ."""

SPOTS = 5  # landmarks that must agree before a picture is worth a look in a mirror

_HEAD = struct.Struct("<B16sIIBQQB")


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """Of one picture.

    Attributes:
        pixels: 16 bytes of the hash of size, pixels and alpha: equal for equal pictures, whatever their files are.
        height, width: of the picture.
        transparent: whether it has alpha.
        whole: perceptual hash of all of it, over white.
        content: the same of what is not transparent or paper.
        landmarks: spots with codes, for crops and other backgrounds.
    """

    pixels: bytes
    height: int
    width: int
    transparent: bool
    whole: int
    content: int
    landmarks: Landmarks

    def pack(self) -> bytes:
        return (
            _HEAD.pack(
                *(VERSION, self.pixels, self.height, self.width, self.transparent),
                *(self.whole, self.content, len(self.landmarks)),
            )
            + self.landmarks.tobytes()
        )

    @classmethod
    def unpack(cls, data: bytes) -> Fingerprint:
        """Raises ValueError for another version, or other bytes."""
        if len(data) < _HEAD.size or data[0] != VERSION:
            raise ValueError("not a fingerprint of this version")
        _, pixels, height, width, transparent, whole, content, count = _HEAD.unpack_from(data)
        if len(data) != _HEAD.size + count * LANDMARK.itemsize:
            raise ValueError("a fingerprint of the wrong length")
        spots = np.frombuffer(data, LANDMARK, count, _HEAD.size)
        return cls(pixels, height, width, bool(transparent), whole, content, spots)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fingerprint) and self.pack() == other.pack()

    def __hash__(self) -> int:
        return hash(self.pixels)


def fingerprint(picture: Picture) -> Fingerprint:
    """Of a decoded picture. The pixel hash costs the most; the rest is read from a small copy."""
    height, width = picture.pixels.shape[:2]
    small = shrunk(picture.pixels, SIDE)
    alpha = None if picture.alpha is None else shrunk(picture.alpha, SIDE)
    left, top, right, bottom = content_box(small, alpha)
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    return Fingerprint(
        pixels=_pixel_hash(picture),
        height=height,
        width=width,
        transparent=alpha is not None,
        whole=phash(grey),
        content=phash(np.ascontiguousarray(grey[top:bottom, left:right])),
        landmarks=landmarks(grey),
    )


def looks_mirrored(a: Fingerprint, b: Fingerprint) -> bool:
    """Whether b is more like the mirrored a than like a: then a look in the mirror is worth its time. A drawing that is its own
    mirror image is not: what it has in common with a version it has most of as it stands."""
    turned = mirrored(b.landmarks)
    spots = shared(a.landmarks, turned)
    if spots >= SPOTS:
        return spots > shared(a.landmarks, b.landmarks)
    odd = odd_columns()
    plain, across = (
        min((a.whole ^ b.whole ^ m).bit_count(), (a.content ^ b.content ^ m).bit_count()) for m in (0, odd)
    )
    return across <= NEAR and across < plain


def _pixel_hash(picture: Picture) -> bytes:
    digest = hashlib.blake2b(struct.pack("<II", *picture.pixels.shape[:2]), digest_size=16)
    digest.update(np.ascontiguousarray(picture.pixels).data)
    if picture.alpha is not None:
        digest.update(np.ascontiguousarray(picture.alpha).data)
    return digest.digest()

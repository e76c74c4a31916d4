"""What a picture looks like in a few bytes: equal pixels, and likeness that survives re-encoding. Knows one picture."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

import numpy as np

from .picture import Picture

VERSION = 1
"""Raise it when the same picture would give other bytes."""


@dataclass(frozen=True)
class Fingerprint:
    """Of one picture.

    Attributes:
        pixels: 16 bytes of the hash of size, pixels and alpha: equal for equal pictures, whatever their files are.
    """

    pixels: bytes

    def pack(self) -> bytes:
        return bytes([VERSION]) + self.pixels

    @classmethod
    def unpack(cls, data: bytes) -> Fingerprint:
        """Raises ValueError for another version, or other bytes."""
        if len(data) != 17 or data[0] != VERSION:
            raise ValueError("not a fingerprint of this version")
        return cls(data[1:])


def fingerprint(picture: Picture) -> Fingerprint:
    """Of a decoded picture."""
    height, width = picture.pixels.shape[:2]
    digest = hashlib.blake2b(struct.pack("<II", height, width) + picture.pixels.tobytes(), digest_size=16)
    if picture.alpha is not None:
        digest.update(np.ascontiguousarray(picture.alpha).tobytes())
    return Fingerprint(digest.digest())

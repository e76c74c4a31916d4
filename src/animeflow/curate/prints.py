"""Fingerprints of a set as columns: arrays that fit a million pictures. Knows fingerprints and numpy; opens no picture."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..image.fingerprint import Fingerprint
from ..image.landmarks import LANDMARK, Landmarks


@dataclass(frozen=True, eq=False)
class Prints:
    """In the order of the uids, whatever order they came in.

    Attributes:
        uids: int64 `[N]`. pixels: 16 bytes each, `[N]`. whole, content: perceptual hashes, uint64 `[N]`.
        landmarks: of all pictures, one after another. starts: where those of picture i begin, `[N + 1]`.
    """

    uids: NDArray[np.int64]
    pixels: NDArray[np.void]
    whole: NDArray[np.uint64]
    content: NDArray[np.uint64]
    landmarks: Landmarks
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.uids)

    @classmethod
    def of(cls, prints: Iterable[tuple[int, bytes]]) -> Prints:
        """From (uid, packed fingerprint)."""
        rows = sorted(prints)
        found = [Fingerprint.unpack(packed) for _, packed in rows]
        spots = [f.landmarks for f in found]
        return cls(
            np.array([uid for uid, _ in rows], np.int64),
            np.frombuffer(b"".join(f.pixels for f in found), "V16"),
            np.array([f.whole for f in found], np.uint64),
            np.array([f.content for f in found], np.uint64),
            np.concatenate(spots) if spots else np.zeros(0, LANDMARK),
            np.concatenate([[0], np.cumsum([len(s) for s in spots], dtype=np.int64)]).astype(np.int64),
        )

    def landmarks_of(self, index: int) -> Landmarks:
        return self.landmarks[self.starts[index] : self.starts[index + 1]]

    def first_of_pixels(self) -> NDArray[np.int64]:
        """For every picture the index of the first one with the same pixels, `[N]`."""
        if not len(self):
            return np.zeros(0, np.int64)
        _, first, which = np.unique(self.pixels.view("S16"), return_index=True, return_inverse=True)
        return np.asarray(first[which], np.int64)

    def twins(self) -> list[list[int]]:
        """uids with equal pixels, two or more together."""
        sets: dict[int, list[int]] = {}
        for index, first in enumerate(self.first_of_pixels().tolist()):
            sets.setdefault(first, []).append(int(self.uids[index]))
        return [uids for uids in sets.values() if len(uids) > 1]

"""At most a share of the set, exactly, and the same pictures every time. Knows uids and shares; knows no origin."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from fractions import Fraction

import numpy as np

from ..core.mixed import mixed


def allowed(counts: Mapping[str, int], caps: Mapping[str, Fraction]) -> dict[str, int]:
    """How many of each capped kind may stay: the most with which every one has at most its share of all that stay.

    From all of them downwards: every kind is cut to its share of what is left, until none has to be. Fewer of one kind only ever
    leaves less room for another, so the first place where it rests is the largest.
    """
    stay = dict(counts)
    while True:
        total = sum(stay.values())
        cut = {kind: min(stay[kind], int(cap * total)) for kind, cap in caps.items() if kind in stay}
        if all(stay[kind] == number for kind, number in cut.items()):
            return {kind: stay[kind] for kind in caps if kind in stay}
        stay |= cut


def chosen(uids: np.ndarray, count: int, kind: str) -> np.ndarray:
    """Which of `uids` stay, bool: those of the smallest draws. A larger count keeps all of a smaller one's."""
    if count >= len(uids):
        return np.ones(len(uids), bool)
    order = np.lexsort((uids, _drawn(uids, kind)))
    stays = np.zeros(len(uids), bool)
    stays[order[:count]] = True
    return stays


def _drawn(uids: np.ndarray, kind: str) -> np.ndarray:
    """uint64, as if drawn at random, from the uid and the kind alone."""
    key = int.from_bytes(hashlib.blake2b(f"cap\x1f{kind}".encode(), digest_size=8).digest(), "big")
    return mixed(uids, key)

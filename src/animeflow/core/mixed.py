"""Integers to integers that look drawn at random, many at once. Knows no torch and no purpose.

For sets of millions, where a hash per picture would take a minute. `seed` has the keys, and every draw that is made one by one.
"""

from __future__ import annotations

import numpy as np


def mixed(numbers: np.ndarray, key: int) -> np.ndarray:
    """A uint64 for every int64, all 64 bits as if drawn, keyed by an integer below 2^64: splitmix64, equal on every machine."""
    z = np.asarray(numbers, dtype=np.int64).view(np.uint64) + np.uint64(key)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))

"""Randomness as a function of position: every draw is keyed by (seed, image, visit, purpose). Knows no global generator.

A resumed run, another accumulation or another number of processes therefore draws the same numbers for the same image.
"""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # rooms without torch draw too
    import torch
    from torch import Tensor


def key(*parts: int | str) -> int:
    """A 63-bit integer that depends on every part and on their order (blake2b, so equal on every machine)."""
    text = "\x1f".join(f"{type(part).__name__[0]}{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(*parts: int | str) -> torch.Generator:
    """A CPU generator keyed by `parts`."""
    import torch

    return torch.Generator().manual_seed(key(*parts))


def rng(*parts: int | str) -> random.Random:
    """A Python generator keyed by `parts`, for strings and choices."""
    return random.Random(key(*parts))


def uniform(*parts: int | str) -> float:
    """One number in [0, 1) with 53 bits, keyed by `parts`."""
    return rng(*parts).random()


def normal(shape: tuple[int, ...], *parts: int | str) -> Tensor:
    """Standard normal float32 tensor of `shape` on the CPU, keyed by `parts`."""
    import torch

    return torch.randn(shape, generator=generator(*parts), dtype=torch.float32)


def permutation(count: int, *parts: int | str) -> np.ndarray:
    """0 .. count - 1 in an order keyed by `parts`, int64. From Philox' raw bits, so equal under every numpy."""
    return np.argsort(np.random.Philox(key=key(*parts)).random_raw(count), kind="stable")

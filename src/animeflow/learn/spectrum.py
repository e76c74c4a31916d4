"""Singular values of low-rank products, by their small core: no matrix of a layer's size is formed. Knows matrices only.

With up = Qu Ru and down' = Qd Rd (QR), up @ down = Qu (Ru Rd') Qd', and the core Ru Rd' is at most r x r: its singular values are
those of the product.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..model.low_rank import LowRank


@dataclass(frozen=True)
class Spectrum:
    """delta W = left @ diag(values) @ right without zeros that the ranks force; float64."""

    left: Tensor  # [out, k], orthonormal columns
    values: Tensor  # [k], falling
    right: Tensor  # [k, in * kernel], orthonormal rows

    @property
    def energy(self) -> Tensor:
        """The share of |delta W|^2 that the first 1, 2, ... values hold, `[k]`; ones where delta W is zero."""
        squares = self.values.square()
        total = squares.sum()
        return squares.cumsum(0) / total if total > 0 else torch.ones_like(squares)


def spectrum(addition: LowRank) -> Spectrum:
    """Of delta W, its scale in it."""
    up, down = _factors(addition)
    left, core, right = _core(up, down)
    u, values, v = torch.linalg.svd(core, full_matrices=False)
    return Spectrum(left @ u, values, v @ right)


def norm(addition: LowRank) -> float:
    """|delta W|, by Frobenius."""
    return _norm(*_factors(addition))


def distance(a: LowRank, b: LowRank) -> float:
    """|delta W of a - delta W of b|, by Frobenius, exact to float64: both are one product of twice the rank."""
    (up_a, down_a), (up_b, down_b) = _factors(a), _factors(b)
    if up_a.shape[0] != up_b.shape[0] or down_a.shape[1] != down_b.shape[1]:
        return float("inf")
    return _norm(torch.cat([up_a, -up_b], dim=1), torch.cat([down_a, down_b]))


def _factors(addition: LowRank) -> tuple[Tensor, Tensor]:
    """`[out, r]` with the scale, and `[r, in * kernel]`."""
    return addition.scale * addition.up.double().flatten(1), addition.down.double().flatten(1)


def _core(up: Tensor, down: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    left, up_r = torch.linalg.qr(up)
    right, down_r = torch.linalg.qr(down.T)
    return left, up_r @ down_r.T, right.T


def _norm(up: Tensor, down: Tensor) -> float:
    return float(torch.linalg.matrix_norm(_core(up, down)[1]))

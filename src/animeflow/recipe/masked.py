"""The mean of a squared error over a picture, of which parts may count less. Knows tensors; knows no batch and no model."""

from __future__ import annotations

from torch import Tensor

BACKGROUND = 0.1
"""How much a cell outside of the mask counts. Not 0: what nothing asks for drifts, and the picture around the subject with it."""


def mean_square(error_BChw: Tensor, mask_B1hw: Tensor | None = None, *, background: float = BACKGROUND) -> Tensor:
    """`[B]`: sum(m error^2) / sum(m) of every picture, with m = background + (1 - background) mask; the plain mean without a mask.

    Each picture is normalised by its own mask, so a small subject weighs as much in a step as a large one: an error that is equal
    everywhere gives the same number under every mask. Where nothing at all would count, everything does.
    """
    if mask_B1hw is None:
        return error_BChw.square().flatten(1).mean(1)
    m_B1hw = background + (1 - background) * mask_B1hw.float()
    m_B1hw = m_B1hw.where(m_B1hw.sum((1, 2, 3), keepdim=True) > 0, m_B1hw.new_ones(()))
    return (m_B1hw * error_BChw.square()).sum((1, 2, 3)) / (m_B1hw.sum((1, 2, 3)) * error_BChw.shape[1])

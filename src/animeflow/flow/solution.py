"""What an integration is given, tells on the way and gives back. Knows tensors; knows no method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.errors import AnimeflowError

VelocityField = Callable[[Tensor, Tensor], Tensor]
"""`(x_BChw, t_B) -> v_BChw`, t float32."""


@dataclass(frozen=True)
class Step:
    """Where the integration is, for progress bars and previews.

    Attributes:
        index: steps begun before this one.
        total: steps of a fixed grid, None for an adaptive solver.
        t_B: time of every sample, 1 to 0.
        x_BChw: the noisy latents.
        denoised_BChw: what the model believes the picture is, x - t v.
    """

    index: int
    total: int | None
    t_B: Tensor
    x_BChw: Tensor
    denoised_BChw: Tensor


OnStep = Callable[[Step], None]


@dataclass(frozen=True)
class Solution:
    """Latents at t = 0 and what they cost.

    Attributes:
        x: `[B, C, h, w]` float32.
        nfe_B: velocity evaluations each sample needed for itself (a guided velocity counts as one).
        steps_B: accepted steps of each sample.
        capped_B: True where `max_nfe` was reached and Euler finished the way.
    """

    x: Tensor
    nfe_B: Tensor
    steps_B: Tensor
    capped_B: Tensor


def finite_or_raise(x: Tensor) -> None:
    """Raises AnimeflowError when the model has left the numbers, instead of drawing a black picture."""
    if not bool(torch.isfinite(x).all()):
        bad = (~torch.isfinite(x.flatten(1))).any(1).nonzero().flatten().tolist()
        raise AnimeflowError(
            f"the latents of samples {bad} of this batch are not finite",
            where="sampling",
            do="use float32 or bf16 instead of fp16, a lower cfg, or an earlier checkpoint",
        )

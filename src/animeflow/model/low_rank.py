"""Low-rank additions to linear layers as plain tensors: what a LoRA file holds, by whatever names. Knows matrices, no network.

A state maps the name of a layer, as `Backbone.export_state` has it without `.weight`, to its addition. The scale that a program
applies is always `alpha / rank`: what rsLoRA or a pattern of alphas asks for is folded into `alpha`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LowRank:
    """The addition to one layer: delta W = alpha / rank * up @ down (arXiv 2106.09685).

    Attributes:
        down: A, `[r, in]` of a linear layer, `[r, in, k, k]` of a convolution.
        up: B, `[out, r]`, or `[out, r, 1, 1]`.
        alpha: numerator of the scale, as a file has it.
        magnitude: `[out]`, of DoRA (arXiv 2402.09353): the layer becomes m * (W + delta W) / |W + delta W| by rows.
    """

    down: Tensor
    up: Tensor
    alpha: float
    magnitude: Tensor | None = None

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    def delta(self) -> Tensor:
        """What is added to the weight, in its shape `[out, in]` or `[out, in, k, k]`, float64."""
        up, down = self.up.double().flatten(1), self.down.double().flatten(1)
        return (self.scale * up @ down).reshape(self.up.shape[0], *self.down.shape[1:])

    def applied(self, weight: Tensor) -> Tensor:
        """The layer's weight with the addition, float64 in the shape of `weight`."""
        changed = weight.double() + self.delta().to(weight.device).reshape(weight.shape)
        if self.magnitude is None:
            return changed
        norm = torch.linalg.vector_norm(changed.flatten(1), dim=1)
        gain = self.magnitude.double().to(weight.device) / norm
        return changed * gain.reshape(-1, *([1] * (weight.ndim - 1)))


LowRankState = Mapping[str, LowRank]
"""Layer -> its addition; the names are those of `Backbone.export_state` without `.weight`."""

"""How much arithmetic one picture costs, in closed form. Knows numbers; knows no network.

One multiplication and addition are 2 FLOP. What is counted is what the mathematics asks for: computing activations again, and the
extra product that fused attention makes on its way back, are the price of a method and count as nothing.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class AttentionCall:
    """One shape of attention and in how many layers it is computed."""

    heads: int
    head_dim: int
    queries: int
    keys: int
    layers: int

    @property
    def flops(self) -> float:
        """Of the two products QK^T and PV in all layers."""
        return 4.0 * self.heads * self.head_dim * self.queries * self.keys * self.layers


@dataclass(frozen=True)
class Work:
    """FLOP of one picture.

    Attributes:
        linear: of linear layers and convolutions, forward.
        attention: every shape of attention.
        spared: of the backward pass, what nobody asks for: gradients of inputs that nothing trainable made, and of frozen weights.
    """

    linear: float
    attention: tuple[AttentionCall, ...]
    spared: float = 0.0

    @property
    def forward(self) -> float:
        return self.linear + sum(call.flops for call in self.attention)

    @property
    def train(self) -> float:
        """Of forward and backward pass: the backward pass computes two products for every one of the forward pass, save for
        `spared`."""
        return 3 * self.forward - self.spared

    @property
    def train_over_base(self) -> float:
        """As `train`, of low-rank additions over frozen weights: nobody asks for the gradient of a linear layer's weight. What the
        additions themselves compute is left out: at rank 32 it is some 2 % of it."""
        return 3 * self.forward - self.linear

    def of_step(self, *, over_base: bool = False, prior: bool = False) -> float:
        """Of one picture of a training step.

        Args:
            over_base: low-rank additions learn, and all else is frozen.
            prior: the same picture once more under another caption, and once forward through the base.
        """
        once = self.train_over_base if over_base else self.train
        return 2 * once + self.forward if prior else once


def linear(rows: int, inputs: int, outputs: int) -> float:
    """FLOP of a linear layer over so many rows."""
    return 2.0 * rows * inputs * outputs

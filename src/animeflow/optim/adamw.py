"""AdamW with float32 state, as a constructor whose arguments are the config. Knows torch; knows no schedule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from ..core.errors import ConfigError
from .groups import parameter_groups


@dataclass(frozen=True)
class AdamW:
    """Full AdamW (Loshchilov and Hutter, arXiv 1711.05101): both moments elementwise, in the parameters' float32.

    Args:
        lr: peak learning rate; the schedule multiplies it.
        rates: peak learning rates of parts, by the beginning of their parameters' names; see `parameter_groups`.
        betas, eps: of the moments and the denominator.
        weight_decay: decoupled, on matrices and convolutions only, embeddings left out.
        lora_plus: how many times that rate the up matrices of a LoRA have; 1 is off, 4 and 16 are usual (arXiv 2402.12354).
    """

    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)
    eps: float = 1e-8
    weight_decay: float = 0.01
    rates: Mapping[str, float] = field(default_factory=dict)
    lora_plus: float = 1.0

    def __post_init__(self) -> None:
        for where, rate in {
            "optim.lr": self.lr,
            **{f"optim.rates.{part}": rate for part, rate in self.rates.items()},
        }.items():
            if not isinstance(rate, int | float) or not rate > 0:
                raise ConfigError(f"learning rate {rate} is not above 0", where=where, do="1e-4 is usual")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(
                f"betas {list(self.betas)} are not two numbers from 0 to below 1",
                where="optim.betas",
                do="[0.9, 0.99] is usual",
            )
        if not self.eps > 0:
            raise ConfigError(f"eps {self.eps} is not above 0", where="optim.eps", do="1e-8 is usual")
        if not self.weight_decay >= 0:
            raise ConfigError(
                f"weight decay {self.weight_decay} is below 0", where="optim.weight_decay", do="0 turns it off"
            )
        if not self.lora_plus > 0:
            raise ConfigError(
                f"lora_plus {self.lora_plus} is not above 0", where="optim.lora_plus", do="1 turns it off"
            )

    def build(self, module: nn.Module) -> torch.optim.AdamW:
        """The optimizer over every trainable parameter of `module`. Raises ConfigError where weights are not float32."""
        require_float32(module)
        return torch.optim.AdamW(self.groups(module), lr=self.lr, betas=self.betas, eps=self.eps, fused=True)

    def groups(self, module: nn.Module) -> list[dict]:
        return parameter_groups(
            module, lr=self.lr, weight_decay=self.weight_decay, rates=self.rates, lora_plus=self.lora_plus
        )

    def values(self, optimizer: torch.optim.Optimizer) -> dict[str, float]:
        return {}


def require_float32(module: nn.Module) -> None:
    """Raises ConfigError where a trainable weight is not float32."""
    low = [name for name, p in module.named_parameters() if p.requires_grad and p.dtype != torch.float32]
    if low:
        raise ConfigError(
            f"{len(low)} trainable tensors are not float32, {low[0]} first",
            why="at a usual learning rate most updates of a bf16 weight round to nothing",
            do="cast the learner to float32; bf16 belongs to autocast (train.precision=bf16)",
        )

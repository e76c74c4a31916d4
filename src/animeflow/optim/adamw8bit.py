"""AdamW with moments in 8 bits (Dettmers et al., arXiv 2110.02861). Knows bitsandbytes; knows no schedule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from ..core.errors import MissingExtra
from .adamw import AdamW, require_float32
from .borrowed import Borrowed, require_whole

SMALL = 4096  # tensors with fewer numbers keep float32 moments


@dataclass(frozen=True)
class AdamW8bit:
    """AdamW whose moments are stored as 8-bit codes with a scale for every 256 of them: 2 bytes for a weight in place of 8.

    Worth it where all weights learn. The moments of a LoRA are small in any case, and this one waits for the device after every
    tensor, where torch's does all of them at once.

    Args:
        lr, rates, lora_plus, betas, eps, weight_decay: as of `AdamW`.
    """

    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)
    eps: float = 1e-8
    weight_decay: float = 0.01
    rates: Mapping[str, float] = field(default_factory=dict)
    lora_plus: float = 1.0

    def __post_init__(self) -> None:
        self._adamw()

    def build(self, module: nn.Module) -> Borrowed:
        """The optimizer over every trainable parameter of `module`.

        Raises:
            MissingExtra: bitsandbytes is not installed.
            ConfigError: weights are not float32, or are sharded.
        """
        make = _library()
        require_float32(module)
        require_whole(module, "adamw8bit", why="its blocks of 256 are cut from whole tensors")
        return Borrowed(
            make(self._adamw().groups(module), lr=self.lr, betas=self.betas, eps=self.eps, min_8bit_size=SMALL)
        )

    def values(self, optimizer: torch.optim.Optimizer) -> dict[str, float]:
        return {}

    def _adamw(self) -> AdamW:
        return AdamW(self.lr, self.betas, self.eps, self.weight_decay, self.rates, self.lora_plus)


def _library() -> Any:
    try:
        from bitsandbytes.optim import AdamW8bit as Theirs
    except ImportError as error:
        raise MissingExtra(
            "8-bit moments need a package that is not installed",
            where="optim.kind",
            do="pip install 'animeflow[lowbit]', or set optim.kind=adamw",
        ) from error
    return Theirs

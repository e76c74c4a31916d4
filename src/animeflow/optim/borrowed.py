"""An optimizer of another library behind our protocol. Knows torch's interface of optimizers; knows no kind of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ..core.errors import ConfigError


class Borrowed(torch.optim.Optimizer):
    """Steps by `inner`, with its groups and its state, unless `found_inf` holds 1.

    The host reads `found_inf` before every step and so waits for the device once. These libraries wait for it many times in each
    step anyway, so nothing is lost that they had not lost already.
    """

    found_inf: Tensor | None = None

    def __init__(self, inner: torch.optim.Optimizer) -> None:
        super().__init__(inner.param_groups, {})
        self._inner = inner

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One step; the gradients are there already, so there is no closure."""
        assert closure is None
        if self.found_inf is not None and self.found_inf.item() > 0:
            return
        # Loading a state replaces both of these, so they are tied anew each time.
        self._inner.state, self._inner.param_groups = self.state, self.param_groups
        self._inner.step()


def require_whole(module: nn.Module, kind: str, *, why: str) -> None:
    """Raises ConfigError where a weight that learns is spread over processes."""
    if any(parameter.requires_grad and isinstance(parameter, DTensor) for parameter in module.parameters()):
        raise ConfigError(
            f"{kind} cannot train a learner that is sharded",
            where="optim.kind",
            why=why,
            do="set train.sharding=none (a LoRA leaves room for it), or optim.kind=adamw",
        )

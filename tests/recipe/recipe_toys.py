"""A linear learner with a low-rank addition that can be switched off, and pictures with two captions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from animeflow.core.batch import Batch
from animeflow.core.conditioning import Conditioning
from animeflow.recipe.velocity import Velocity


class Added(nn.Module):
    """v = W x + B A x + word (1 + t). Keeps what it was called with."""

    def __init__(self, *, up: float) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(3)
        self.register_buffer("base", torch.randn(4, 4, generator=draw))
        self.down = nn.Parameter(torch.randn(2, 4, generator=draw))
        self.up = nn.Parameter(up * torch.randn(4, 2, generator=draw))
        self.on, self.calls = True, []

    @property
    def asked(self) -> int:
        return len(self.calls)

    def forward(self, x: Tensor, t_B: Tensor, cond: Conditioning) -> Tensor:
        self.calls.append((x, t_B, cond["word"], self.on, torch.is_grad_enabled()))
        v = torch.einsum("oc,bchw->bohw", self.base, x)
        if self.on:
            v = v + torch.einsum("or,rc,bchw->bohw", self.up, self.down, x)
        return v + (cond["word"] * (1 + t_B)).reshape(-1, 1, 1, 1)

    @contextlib.contextmanager
    def off(self) -> Iterator[None]:
        self.on = False
        try:
            yield
        finally:
            self.on = True


def recipe(net: Added, learner: nn.Module | None = None, **options) -> Velocity:
    return Velocity(learner or net, **({"seed": 3, "base": net.off} | options))


def batch(rows: slice = slice(None)) -> Batch:
    latents = torch.randn(8, 4, 6, 10, generator=torch.Generator().manual_seed(1))
    words, classes = (Conditioning({"word": torch.linspace(a, 1, 8)}).rows(rows) for a in (-1, 0))
    uids, visits = tuple(range(1000, 1008)), (0, 0, 1, 1, 2, 2, 3, 3)
    return Batch(latents[rows], words, uids[rows], visits[rows], 8, prior=classes)

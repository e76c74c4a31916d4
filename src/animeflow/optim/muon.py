"""Muon on the hidden matrices of the blocks, AdamW on all else, as one optimizer. Knows parameters; knows no family and no loop.

Muon (Jordan et al., 2024) steps along the momentum with all its singular values brought near one. With the step scaled to the
size of AdamW's (Liu et al., arXiv 2502.16982) learning rate and decay carry over, so both halves share them.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from ..core.errors import ConfigError
from .adamw import AdamW, require_float32
from .protocol import HasBlocks

log = logging.getLogger(__name__)

NEWTON_SCHULZ = (
    3.4445,
    -4.7750,
    2.0315,
)  # Jordan's coefficients: singular values land between 0.7 and 1.2 in five rounds
ROUNDS = 5
NOT_HIDDEN = ("norm", "modulation", "adaln", "embed")  # parts of names inside a block that turn conditions into scales


@dataclass(frozen=True)
class Muon:
    """Muon where it is meant to be, AdamW elsewhere.

    Args:
        lr, rates, lora_plus, betas, eps, weight_decay: as of `AdamW`; all but `betas` and `eps` hold for both.
        momentum: of Muon's one moment, with Nesterov's look ahead.
    """

    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)
    eps: float = 1e-8
    weight_decay: float = 0.01
    momentum: float = 0.95
    rates: Mapping[str, float] = field(default_factory=dict)
    lora_plus: float = 1.0

    def __post_init__(self) -> None:
        self._adamw()
        if not 0 <= self.momentum < 1:
            raise ConfigError(
                f"momentum {self.momentum} is not from 0 to below 1", where="optim.momentum", do="0.95 is usual"
            )

    def build(self, module: nn.Module) -> MuonAdamW:
        """The optimizer over every trainable parameter of `module`. Raises ConfigError where weights are not float32, or none is a
        hidden matrix."""
        require_float32(module)
        hidden = {id(weight) for weight in hidden_matrices(module)}
        if not hidden:
            raise ConfigError(
                "Muon finds no trainable matrix inside the blocks of this learner",
                where="optim.kind",
                do="set optim.kind=adamw, or let the blocks train",
            )
        groups = [
            {**group, "params": chosen, "hidden": is_hidden}
            for group in self._adamw().groups(module)
            for is_hidden in (True, False)
            if (chosen := [p for p in group["params"] if (id(p) in hidden) == is_hidden])
        ]
        optimizer = MuonAdamW(groups, betas=self.betas, eps=self.eps, momentum=self.momentum)
        count = sum(p.numel() for group in groups if group["hidden"] for p in group["params"])
        log.info("Muon takes %d matrices with %s parameters, AdamW all else", len(hidden), f"{count:,}")
        return optimizer

    def values(self, optimizer: torch.optim.Optimizer) -> dict[str, float]:
        return {}

    def _adamw(self) -> AdamW:
        shared = {name: getattr(self, name) for name in ("lr", "betas", "eps", "weight_decay", "rates", "lora_plus")}
        return AdamW(**shared)


def hidden_matrices(module: nn.Module) -> list[nn.Parameter]:
    """The trainable matrices of attention and MLP inside the blocks: no embedding, no modulation, nothing outside."""
    return [
        weight
        for block in cast(HasBlocks, module).blocks()
        for name, weight in block.named_parameters()
        if weight.requires_grad and weight.ndim == 2 and not any(word in name.lower() for word in NOT_HIDDEN)
    ]


class MuonAdamW(torch.optim.Optimizer):
    """Groups with `hidden` step by Muon, the others by torch's fused AdamW. A sharded matrix is put together for its step, the same
    on every process, and each keeps its rows; the momentum stays sharded."""

    found_inf: Tensor | None = None  # 0/1 on the device; 1 leaves the step out

    def __init__(
        self, groups: list[dict[str, Any]], *, betas: tuple[float, float], eps: float, momentum: float
    ) -> None:
        super().__init__(groups, {"hidden": False})
        self.momentum = momentum
        others = [group for group in self.param_groups if not group["hidden"]]
        self._adamw = torch.optim.AdamW(others, betas=betas, eps=eps, fused=True) if others else None

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One step; the gradients are there already, so there is no closure."""
        assert closure is None
        if self._adamw is not None:
            # Loading a state replaces both of these, so they are tied anew each time.
            self._adamw.state = self.state
            self._adamw.param_groups = [group for group in self.param_groups if not group["hidden"]]
            self._adamw.found_inf = self.found_inf  # type: ignore[attr-defined]
            self._adamw.step()
        for group in self.param_groups:
            if group["hidden"]:
                for weight in group["params"]:
                    if weight.grad is not None:
                        self._step_of(weight, lr=group["lr"], decay=group["weight_decay"])

    def _step_of(self, weight: nn.Parameter, *, lr: float, decay: float) -> None:
        state = self.state[weight]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(weight)
        # Where the step is left out, `good` is 0 and what is no number is never read: weight and momentum stay as they are.
        good: Tensor | float = 1.0
        gradient, momentum = _local(cast(Tensor, weight.grad)), _local(state["momentum"])
        if self.found_inf is not None:
            good = 1 - self.found_inf
            gradient = torch.where(self.found_inf > 0, 0.0, gradient)
        momentum.lerp_(gradient, (1 - self.momentum) * good)
        ahead = gradient.lerp(momentum, self.momentum)
        # bf16 is enough for what only has to be near one, and the GPU is far faster in it.
        direction = _rows_like(
            weight, orthogonal(_whole_like(weight, ahead, torch.bfloat16 if weight.is_cuda else None))
        )
        scale = 0.2 * math.sqrt(max(weight.shape))  # an orthogonal matrix this large has the entries of an AdamW step
        _local(weight).mul_(1 - lr * decay * good).add_(direction.to(weight.dtype) * (-lr * scale * good))


def orthogonal(matrix: Tensor) -> Tensor:
    """`U V^T` of the singular value decomposition `U S V^T`, nearly: by Newton-Schulz rounds of a polynomial of fifth degree."""
    a, b, c = NEWTON_SCHULZ
    tall = matrix.shape[0] > matrix.shape[1]
    X = matrix.T if tall else matrix  # the smaller of the two Gram matrices
    X = X / X.norm().clamp(min=1e-7)
    for _ in range(ROUNDS):
        gram = X @ X.T
        X = a * X + (b * gram + c * gram @ gram) @ X
    return X.T if tall else X


def _local(tensor: Tensor) -> Tensor:
    """This process's part of a sharded tensor, sharing its memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _whole_like(weight: Tensor, part: Tensor, dtype: torch.dtype | None) -> Tensor:
    """All parts, put together as `weight` is cut."""
    part = part.to(dtype or part.dtype)
    if not isinstance(weight, DTensor):
        return part
    mesh, placements = weight.device_mesh, weight.placements
    return DTensor.from_local(part, mesh, placements, shape=weight.shape, stride=weight.stride()).full_tensor()


def _rows_like(weight: Tensor, whole: Tensor) -> Tensor:
    """This process's part of `whole`, cut as `weight` is. Every process holds the whole, so nothing travels."""
    if not isinstance(weight, DTensor):
        return whole
    return distribute_tensor(whole, weight.device_mesh, weight.placements, src_data_rank=None).to_local()

"""Whole optimizer steps, ours or a peer's, and the clock beside them. Knows batches; knows no family.

Both sides do the same mathematics: the recipe's loss over the micro-batches, clipped gradients, AdamW. What differs is the module
that is called, how it is prepared, the optimizer's kernel, and our averages.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..core.batch import Batch
from ..model.protocol import Family
from ..optim.power_ema import PowerEMA
from ..recipe.protocol import Recipe
from ..train.speed import Speed
from .random_data import RandomData


class Side:
    """One loop over one module on one device.

    Args:
        name: in the report.
        module: whose weights move; it is on its device.
        recipe: made of what is called.
        optimizer: over the module's parameters; its groups hold `peak_lr`.
        ema: averages, if any.
        low: compute under bf16 autocast.
        clip: global norm of gradients; 0 leaves them.
        speed: what was chosen to make it fast; nothing for a peer.
    """

    def __init__(
        self,
        name: str,
        module: nn.Module,
        *,
        recipe: Callable[[Any], Recipe],
        optimizer: torch.optim.Optimizer,
        ema: PowerEMA | None,
        low: bool,
        clip: float,
        speed: Speed | None = None,
    ) -> None:
        self.name, self.module, self.optimizer, self.ema, self.clip, self.low = name, module, optimizer, ema, clip, low
        self.device = next(module.parameters()).device
        self.recipe = recipe(self._called)
        self.speed, self.images_seen = speed, 0
        self.module.train()

    def around(self) -> AbstractContextManager[Any]:
        """Around steps: attention by the chosen kernel."""
        return self.speed.applied() if self.speed else nullcontext()

    def step(self, batches: Sequence[Batch]) -> Tensor:
        """One optimizer step; its loss, on the device."""
        loss = torch.zeros((), device=self.device)
        for phase in self.recipe.phases():
            for batch in batches:
                report = phase.loss(batch)
                report.loss.backward()
                loss += report.loss.detach()
        torch.nn.utils.clip_grad_norm_(self.module.parameters(), self.clip or float("inf"))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.images_seen += batches[0].global_count
        if self.ema:
            self.ema.update(self.images_seen, batches[0].global_count)
        return loss

    def _called(self, *inputs: Any) -> Tensor:
        with self._autocast():
            return self.module(*inputs)

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.low)


@dataclass
class Measured:
    """What one side did in the rounds that count."""

    seconds: list[float] = field(default_factory=list)  # of each round
    waits: list[float] = field(default_factory=list)  # of each round: the host waited for data
    losses: list[float] = field(default_factory=list)  # of every step, those that warmed up among them
    warmup_seconds: float = 0.0
    resident: int = 0  # bytes that lie on the device between steps
    peak_memory: int | None = None  # bytes, without what lies there of others; where the device tells
    graphs: int = 0  # compiled after the warm-up

    @property
    def median(self) -> float:
        """Seconds of a round."""
        return statistics.median(self.seconds)


def warm_up(side: Side, data: RandomData, measured: Measured, *, rounds: int) -> None:
    """The first rounds, which choose kernels and compile: not measured."""
    start = time.perf_counter()
    with side.around():
        for number in range(rounds):
            measured.losses += _round(side, data.round(number))[2]
    measured.warmup_seconds = time.perf_counter() - start


def timed_round(side: Side, steps: list[list[Batch]], measured: Measured, *, others: int = 0) -> None:
    """One round between two waits for the device, on which `others` bytes are not ours."""
    before = graphs()
    if side.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(side.device)
    with side.around():
        seconds, wait, losses = _round(side, steps)
    measured.seconds.append(seconds)
    measured.waits.append(wait)
    measured.losses += losses
    measured.graphs += graphs() - before
    if side.device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(side.device) - others
        measured.peak_memory = max(measured.peak_memory or 0, peak)


def _round(side: Side, steps: list[list[Batch]]) -> tuple[float, float, list[float]]:
    losses, wait = [], 0.0
    synchronize(side.device)
    start = time.perf_counter()
    for batches in steps:
        asked = time.perf_counter()
        moved = [batch.to(side.device) for batch in batches]
        wait += time.perf_counter() - asked
        losses.append(side.step(moved))
    synchronize(side.device)
    return time.perf_counter() - start, wait, torch.stack(losses).tolist()


def kernels(side: Side, batches: Sequence[Batch], *, most: int = 24) -> dict[str, Any] | None:
    """Where one step's time on the GPU goes: kinds and single kernels, in milliseconds; None without one."""
    if side.device.type != "cuda":
        return None
    from torch.profiler import ProfilerActivity, profile

    moved = [batch.to(side.device) for batch in batches]
    with side.around(), profile(activities=[ProfilerActivity.CUDA]) as profiler:
        side.step(moved)
        synchronize(side.device)
    found = [(event.key, event.device_time_total / 1e3, event.count) for event in profiler.key_averages()]
    found = sorted((each for each in found if each[1] > 0), key=lambda each: -each[1])
    by_kind: dict[str, float] = {}
    for name, milliseconds, _ in found:
        kind = _kind(name)
        by_kind[kind] = by_kind.get(kind, 0.0) + milliseconds
    return {
        "milliseconds": {kind: round(value, 2) for kind, value in sorted(by_kind.items(), key=lambda each: -each[1])},
        "largest": [{"name": n[:160], "milliseconds": round(ms, 3), "calls": calls} for n, ms, calls in found[:most]],
    }


KINDS = (  # in this order: some attention kernels are made of GEMMs and say so
    ("attention", ("flash", "fmha", "sdpa", "attention", "attn", "softmax")),
    ("convolution", ("conv", "implicit_gemm", "dgrad", "wgrad")),
    ("gemm", ("gemm", "cublas", "nvjet", "cutlass", "matmul", "xmma", "cijk")),
    ("optimizer", ("adam", "multi_tensor", "foreach", "lerp")),
    ("copy", ("memcpy", "memset")),
)


def _kind(name: str) -> str:
    low = name.lower()
    return next((kind for kind, words in KINDS if any(word in low for word in words)), "pointwise and other")


def flops(family: Family, data: RandomData, tokens: int) -> float:
    """Of one round, by the closed form at the sizes that it has."""
    works = [family.work(height=size.height, width=size.width, text_tokens=tokens) for size in data.sizes]
    return sum(work.train * data.images for work in works)


def graphs() -> int:
    """Graphs that torch.compile has made in this process so far."""
    from torch._dynamo.utils import counters

    return int(counters["stats"]["unique_graphs"])


def allocated(device: torch.device) -> int:
    """Bytes of tensors on a GPU."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was asked."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)

"""What one optimizer step says of itself, summed over all processes in one vector. Knows numbers; knows no model.

The vector stays on the device: no step waits for the host to read it. All processes see the same sums, so what is decided from
them (skip, stop, save) is decided alike everywhere.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

import torch
from torch import Tensor

BINS = 10
WISHES = ("stop", "checkpoint", "sample", "pause")  # what a signal or a key on any one process asks all of them for
_WISHED = 3 * BINS + 1
T = TypeVar("T")


class Totals:
    """Sums over the images of one step.

    Attributes:
        values: float64 `[3 * BINS + 1 + len(WISHES)]`: by bin of t the sum of finite losses, their number, the number of the
            others; the gradient norm; then how many processes have each wish.
    """

    def __init__(self, values: Tensor) -> None:
        self.values = values

    @staticmethod
    def of(
        losses: Iterable[tuple[Tensor, Tensor]],
        *,
        norm: Tensor,
        wishes: Iterable[str],
        sum_up: Callable[[Tensor], Tensor],
        world: int = 1,
    ) -> Totals:
        """From `(loss_B, t_B)` of this process's micro-batches and its wishes; `sum_up` sums over the `world` processes in place.
        The norm is known to all of them, but groups that reduced it apart may differ in its last bit: its mean is the same."""
        pairs = list(losses)
        loss_B = torch.cat([loss for loss, _ in pairs]).double()
        bin_B = (torch.cat([t for _, t in pairs]).double() * BINS).long().clamp_(0, BINS - 1)
        finite_B = torch.isfinite(loss_B)
        values = torch.zeros(_WISHED + len(WISHES), dtype=torch.float64, device=loss_B.device)
        sums = values[: 3 * BINS].view(3, BINS)
        sums[0].index_add_(0, bin_B, torch.where(finite_B, loss_B, 0.0))
        sums[1].index_add_(0, bin_B, finite_B.double())
        sums[2].index_add_(0, bin_B, (~finite_B).double())
        values[_WISHED - 1] = norm.detach().double() / world
        values[_WISHED:] = _counts(wishes, device=loss_B.device)
        return Totals(sum_up(values))

    @property
    def sums(self) -> Tensor:
        """`[3, BINS]`: see `values`."""
        return self.values[: 3 * BINS].view(3, BINS)

    @property
    def norm(self) -> Tensor:
        """Of the gradient before it was clipped, a scalar on the device."""
        return self.values[_WISHED - 1]

    @property
    def nonfinite(self) -> Tensor:
        """Number of images whose loss is no number, a scalar on the device."""
        return self.sums[2].sum()

    def wishes(self) -> set[str]:
        """Read it from a copy on the host."""
        return _wished(self.values[_WISHED:])


def agree(wishes: Iterable[str], *, device: torch.device, sum_up: Callable[[Tensor], Tensor]) -> set[str]:
    """What any process wishes, on all of them. Waits."""
    return _wished(sum_up(_counts(wishes, device=device)))


def _counts(wishes: Iterable[str], *, device: torch.device) -> Tensor:
    counts = torch.zeros(len(WISHES), dtype=torch.float64, device=device)
    for wish in wishes:
        counts[WISHES.index(wish)].fill_(1.0)  # a copy from the host would wait for the device
    return counts


def _wished(counts: Tensor) -> set[str]:
    return {wish for wish, count in zip(WISHES, counts.tolist(), strict=True) if count}


class Later(Generic[T]):
    """Device tensors that the host reads some steps later, when they have long been computed, so that it never waits for them."""

    def __init__(self, *, lag: int = 1) -> None:
        self.lag = lag
        self._waiting: deque[tuple[T, Tensor, torch.cuda.Event | None]] = deque()

    def put(self, note: T, values: Tensor) -> list[tuple[T, Tensor]]:
        """Hand in one; returns those that are due, oldest first, each with the note it came with."""
        event = None
        if values.is_cuda:
            host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            host.copy_(values, non_blocking=True)
            event = torch.cuda.Event()
            event.record()
            values = host
        self._waiting.append((note, values, event))
        return [self._take() for _ in range(len(self._waiting) - self.lag)]

    def drain(self) -> list[tuple[T, Tensor]]:
        """All that is left. Waits for the device."""
        return [self._take() for _ in range(len(self._waiting))]

    def _take(self) -> tuple[T, Tensor]:
        note, values, event = self._waiting.popleft()
        if event is not None:
            event.synchronize()
        return note, values

"""What the loop measures of itself: loss, loss per timestep bin, speed. Knows numbers; knows no model."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

BINS = 10


class Telemetry:
    """Sums on the device between two log lines, so that no step waits for the host.

    Images whose loss is not finite are counted and left out of every mean: one of them would make all later averages NaN.
    """

    def __init__(self, device: torch.device, *, average_images: float = 2000.0) -> None:
        self.average_images = average_images
        self.loss_ema: float | None = None
        # Rows: sum of finite losses, number of them, number of the others; columns: bins of t.
        self._sums = torch.zeros(3, BINS, device=device, dtype=torch.float64)
        self._images = 0
        self.start()

    def start(self) -> None:
        """The clock starts here, and anew with every `flush`."""
        self._wait_s = self._paused_s = 0.0
        self._since = time.perf_counter()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """What is done inside (hooks, checkpoints) is not training time."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._paused_s += time.perf_counter() - start

    def add(self, loss_B: Tensor, t_B: Tensor, *, global_images: int, wait_s: float) -> None:
        """Per-image losses and timesteps of one optimizer step on this process."""
        bin_B = (t_B.double() * BINS).long().clamp_(0, BINS - 1)
        finite_B = torch.isfinite(loss_B)
        self._sums[0].index_add_(0, bin_B, torch.where(finite_B, loss_B.double(), 0.0))
        self._sums[1].index_add_(0, bin_B, finite_B.double())
        self._sums[2].index_add_(0, bin_B, (~finite_B).double())
        self._images += global_images
        self._wait_s += wait_s

    def flush(self, reduce: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """Numbers since the last flush; `reduce` sums a tensor over processes. A mean over no image is NaN."""
        total, count, nonfinite = reduce(self._sums.clone()).cpu()
        seconds = max(time.perf_counter() - self._since - self._paused_s, 1e-9)
        loss = float(total.sum() / count.sum())
        if count.sum() > 0:
            keep = 0.5 ** (self._images / self.average_images)
            self.loss_ema = loss if self.loss_ema is None else keep * self.loss_ema + (1 - keep) * loss
        values = {
            "train/loss": loss,
            "train/loss_ema": float("nan") if self.loss_ema is None else self.loss_ema,
            "train/nonfinite_images": float(nonfinite.sum()),
            "time/images_per_second": self._images / seconds,
            "time/data_wait_share": self._wait_s / seconds,
            "time/hooks_seconds": self._paused_s,
        }
        values |= {f"train/loss_bin_{i}": float(total[i] / count[i]) for i in range(BINS) if count[i] > 0}
        self._sums.zero_()
        self._images = 0
        self.start()
        return values

    def state_dict(self, reduce: Callable[[Tensor], Tensor]) -> dict[str, Any]:
        """What the next line will be made of, as JSON that gives every float64 back exactly; `reduce` as in `flush`."""
        return {"loss_ema": self.loss_ema, "images": self._images, "sums": reduce(self._sums.clone()).tolist()}

    def load_state_dict(self, state: Mapping[str, Any], *, holder: bool) -> None:
        """Inverse of `state_dict`. The sums were over all processes, so one of them, the `holder`, takes them all."""
        self.loss_ema, self._images = state["loss_ema"], state["images"]
        self._sums.copy_(torch.tensor(state["sums"], dtype=torch.float64) * holder)

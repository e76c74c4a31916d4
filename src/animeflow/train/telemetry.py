"""What the loop measures of itself: loss, loss per timestep bin, speed. Knows numbers; knows no model."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

BINS = 10


class Telemetry:
    """Sums on the device between two log lines, so that no step waits for the host."""

    def __init__(self, device: torch.device, *, average_images: float = 2000.0) -> None:
        self.average_images = average_images
        self.loss_ema: float | None = None
        self._sum = torch.zeros(2, BINS, device=device, dtype=torch.float64)
        self._images = 0
        self._wait_s = 0.0
        self._since = time.perf_counter()

    def add(self, loss_B: Tensor, t_B: Tensor, *, global_images: int, wait_s: float) -> None:
        """Per-image losses and timesteps of one optimizer step on this process."""
        bin_B = (t_B.double() * BINS).long().clamp_(0, BINS - 1)
        self._sum[0].index_add_(0, bin_B, loss_B.double())
        self._sum[1].index_add_(0, bin_B, torch.ones_like(loss_B, dtype=torch.float64))
        self._images += global_images
        self._wait_s += wait_s

    def flush(self, reduce: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """Numbers since the last flush; `reduce` sums a tensor over processes."""
        total, count = reduce(self._sum.clone()).cpu()
        seconds = time.perf_counter() - self._since
        loss = float(total.sum() / count.sum().clamp(min=1))
        keep = 0.5 ** (self._images / self.average_images)
        self.loss_ema = loss if self.loss_ema is None else keep * self.loss_ema + (1 - keep) * loss
        values = {
            "train/loss": loss,
            "train/loss_ema": self.loss_ema,
            "time/images_per_second": self._images / max(seconds, 1e-9),
            "time/data_wait_share": self._wait_s / max(seconds, 1e-9),
        }
        values |= {f"train/loss_bin_{i}": float(total[i] / count[i]) for i in range(BINS) if count[i] > 0}
        self._sum.zero_()
        self._images, self._wait_s, self._since = 0, 0.0, time.perf_counter()
        return values

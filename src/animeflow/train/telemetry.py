"""What the loop measures of itself: loss, loss per timestep bin, speed. Knows numbers; knows no model."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from .totals import BINS, Totals


class Telemetry:
    """Sums on the device between two log lines, so that no step waits for the host.

    Images whose loss is not finite are counted and left out of every mean: one of them would make all later averages NaN.

    Args:
        device: of the sums.
        average_images: half-life of the smoothed loss.
        peak_flops: of all devices of the run together; None where it is not known, and no share of it is told.
    """

    def __init__(
        self, device: torch.device, *, average_images: float = 2000.0, peak_flops: float | None = None
    ) -> None:
        self.average_images, self.peak_flops = average_images, peak_flops
        self.loss_ema: float | None = None
        self._device = device
        self.window_wait = 0.0  # seconds that this process waited for data before the last flush
        self._sums = torch.zeros(3, BINS, device=device, dtype=torch.float64)  # as in Totals
        self._parts: dict[str, torch.Tensor] = {}  # sum and number of images of what else is in the loss
        self._named: tuple[tuple[str, ...], torch.Tensor] | None = (
            None  # components, sums and numbers of images of each
        )
        self._images, self._flops = 0, 0.0
        self.start()

    def start(self) -> None:
        """The clock starts here, and anew with every `flush`."""
        self._wait_s = self._paused_s = 0.0
        self._timed_images, self._timed_flops = 0, 0.0
        self._since = time.perf_counter()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """What is done inside (hooks, checkpoints) is not training time."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._paused_s += time.perf_counter() - start

    def add(
        self,
        totals: Totals,
        *,
        images: int,
        wait_s: float,
        flops: float = 0.0,
        parts: Mapping[str, torch.Tensor] | None = None,
        components: tuple[tuple[str, ...], torch.Tensor] | None = None,
    ) -> None:
        """One optimizer step over all processes; `flops` by the closed form, over all its images; `parts` of the loss by name, each
        its sum and its number of images, float64 `[2]`; `components`: their names and the same of each, `[components, 2]`."""
        self._sums += totals.sums
        if components is not None:
            self._named = (components[0], components[1] + self._named[1]) if self._named else components
        for name, sums in (parts or {}).items():
            self._parts[name] = self._parts[name] + sums if name in self._parts else sums
        self._images += images
        self._timed_images += images
        self._timed_flops += flops
        self._wait_s += wait_s

    def flush(self) -> dict[str, float]:
        """Numbers since the last flush. A mean over no image is NaN."""
        total, count, nonfinite = self._sums.cpu()  # waits for the device, so the clock below is right
        seconds = max(time.perf_counter() - self._since - self._paused_s, 1e-9)
        loss = float(total.sum() / count.sum())
        if count.sum() > 0:
            keep = 0.5 ** (self._images / self.average_images)
            self.loss_ema = loss if self.loss_ema is None else keep * self.loss_ema + (1 - keep) * loss
        values = {
            "train/loss": loss,
            "train/loss_ema": float("nan") if self.loss_ema is None else self.loss_ema,
            "train/nonfinite_images": float(nonfinite.sum()),
            "time/images_per_second": self._timed_images / seconds,
            "time/data_wait_share": self._wait_s / seconds,
            "time/hooks_seconds": self._paused_s,
        }
        if self._timed_flops:
            values["time/tflops"] = self._timed_flops / seconds / 1e12
            if self.peak_flops:
                values["time/mfu"] = self._timed_flops / seconds / self.peak_flops
        if self._device.type == "cuda":
            values["memory/peak_gib"] = torch.cuda.max_memory_allocated(self._device) / 2**30
        self.window_wait = self._wait_s
        values |= {f"train/loss_bin_{i}": float(total[i] / count[i]) for i in range(BINS) if count[i] > 0}
        for name, sums in sorted(self._parts.items()):
            part, images = sums.tolist()
            values[f"train/loss_{name}"] = part / images if images else float("nan")
        if self._named:
            values |= _of_components(*self._named)
        self._sums.zero_()
        self._parts, self._images, self._named = {}, 0, None
        self.start()
        return values

    def state_dict(self) -> dict[str, Any]:
        """What the next line will be made of, as JSON that gives every float64 back exactly."""
        state = {"loss_ema": self.loss_ema, "images": self._images, "sums": self._sums.tolist()}
        parts = {name: sums.tolist() for name, sums in self._parts.items()}
        named = {"components": [list(self._named[0]), self._named[1].tolist()]} if self._named else {}
        return state | ({"parts": parts} if parts else {}) | named

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`; the sums are over all processes, and all have them."""
        self.loss_ema, self._images = state["loss_ema"], state["images"]
        self._sums.copy_(torch.tensor(state["sums"], dtype=torch.float64))
        self._parts = {
            name: torch.tensor(sums, dtype=torch.float64, device=self._device)
            for name, sums in state.get("parts", {}).items()
        }
        names, sums = state.get("components", (None, None))
        self._named = (tuple(names), torch.tensor(sums, dtype=torch.float64, device=self._device)) if names else None


def _of_components(names: tuple[str, ...], sums_C2: torch.Tensor) -> dict[str, float]:
    """Of every component its mean loss and its share of the images; those that did not come have no loss."""
    rows = sums_C2.tolist()
    whole = sum(count for _, count in rows)
    losses = {f"train/loss/{name}": loss / count for name, (loss, count) in zip(names, rows, strict=True) if count}
    return losses | {f"data/share/{name}": count / max(whole, 1) for name, (_, count) in zip(names, rows, strict=True)}

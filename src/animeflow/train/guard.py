"""Whether a step is taken: its loss and gradient against those before it. Knows numbers; knows no pictures and no consequence.

A loss says little by itself: one step of small t has twice the loss of another. So a step is compared with what its own timesteps
let expect, and the logarithm of that ratio with the last ones by median and median absolute deviation, which single wild steps do
not move. All of it is tensor arithmetic on the device.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .settings import Guard as Settings
from .totals import BINS, Totals

WARM = 32  # steps before anything is called a spike
RISE = 1.05  # a spike is at least 5 % above what was expected, however quiet the run was
NORM = 2.0  # and a gradient norm at least twice the usual
MAD = 1.4826  # of a normal law: standard deviation / median absolute deviation
_MEMORY = 0.98  # of the running mean loss of a bin, per step
GOOD, NONFINITE, SPIKE = 0, 1, 2


class Verdict(NamedTuple):
    """Scalars on the device.

    Attributes:
        skip: 1.0 where the step must not be taken, else 0.0; what fused optimizers read as `found_inf`.
        report: float64 `[5]` for the host: kind (0 good, 1 no number, 2 spike), z of the loss, z of the gradient norm, loss, norm.
    """

    skip: Tensor
    report: Tensor


class Guard:
    """Judges every step, before it is taken, alike on all processes."""

    def __init__(self, settings: Settings, device: torch.device) -> None:
        self.settings = settings
        self._bins = torch.full((BINS,), float("nan"), dtype=torch.float64, device=device)  # running mean loss
        self._ratio = torch.zeros(settings.window, dtype=torch.float64, device=device)  # as far as steps have filled it
        self._norm = torch.zeros_like(self._ratio)
        self._steps = 0

    def judge(self, totals: Totals) -> Verdict:
        """The verdict on a step from its sums and its gradient norm."""
        total, count, _ = totals.sums
        norm = totals.norm
        bad = (totals.nonfinite > 0) | ~torch.isfinite(norm)
        loss = total.sum() / count.sum()
        mean = total / count.clamp(min=1)
        seen = count > 0
        known = torch.where(torch.isnan(self._bins), mean, self._bins)
        expected = (known * count).sum() / count.sum()
        ratio = torch.log(loss / expected)
        filled = min(self._steps, self.settings.window)  # known here, so that the device need not be asked
        z_loss, usual_ratio, ratio_kept = _robust(self._ratio[:filled], ratio, self.settings.z)
        z_norm, usual_norm, norm_kept = _robust(self._norm[:filled], torch.log(norm), self.settings.z)
        high = (z_loss > self.settings.z) & (loss > RISE * expected)
        steep = (z_norm > self.settings.z) & (norm > NORM * torch.exp(usual_norm))
        spike = (high | steep) & ~bad & (self._steps >= WARM)
        if self.settings.spike == "off":
            spike = torch.zeros_like(spike)

        # What was wild goes into the memory cut down to the edge of the usual: a run that has really changed is so accepted in
        # time, and one wild step is forgotten.
        calm = ~bad & ~spike
        self._bins = torch.where(seen & calm, torch.lerp(mean, known, _MEMORY), self._bins)
        place = self._steps % self.settings.window
        self._ratio[place] = torch.where(bad, usual_ratio, ratio_kept)
        self._norm[place] = torch.where(bad, usual_norm, norm_kept)
        self._steps += 1

        skip = bad | spike if self.settings.spike in ("skip", "rollback") else bad
        kind = torch.maximum(NONFINITE * bad.double(), SPIKE * spike.double())  # never both
        report = torch.stack([kind, z_loss, z_norm, loss, norm])
        return Verdict(skip.float(), report)

    def state_dict(self) -> dict[str, Any]:
        """JSON that gives every float64 back exactly; NaN as None."""
        rows = {"bins": self._bins, "ratio": self._ratio, "norm": self._norm}
        plain = {name: [None if v != v else v for v in row.tolist()] for name, row in rows.items()}
        return {"steps": self._steps, **plain}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`. Another window starts its memory anew."""
        self._steps = state["steps"]
        for name, row in (("bins", self._bins), ("ratio", self._ratio), ("norm", self._norm)):
            values = torch.tensor([float("nan") if v is None else v for v in state[name]], dtype=torch.float64)
            if len(values) == len(row):
                row.copy_(values)
            else:
                self._steps = 0


def _robust(memory: Tensor, value: Tensor, z: float) -> tuple[Tensor, Tensor, Tensor]:
    """How many robust standard deviations `value` is above the median of `memory`; that median; and `value` cut to +- z of them. 0,
    0 and the value itself while the memory holds too few to tell what is usual: cut to those, it would never learn what is.
    (`torch.median` and not `nanmedian`, which waits for the device.)"""
    value = torch.nan_to_num(value, nan=0.0, posinf=0.0, neginf=0.0)
    if len(memory) < WARM:
        return torch.zeros_like(value), value, value
    middle = memory.median()
    spread = MAD * (memory - middle).abs().median() + 1e-6
    return (value - middle) / spread, middle, torch.clamp(value, middle - z * spread, middle + z * spread)

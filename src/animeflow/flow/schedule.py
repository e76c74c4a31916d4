"""The times a fixed-step solver stops at, from noise to data. Knows numbers; knows no solver and no model.

Every schedule starts at 1, falls strictly and ends in exactly 0: `[steps + 1]` float32, computed in float64. A released
SD3-like model has a table of 1000 times S_a(i / 1000); schedules that pick from it repeat what ComfyUI and diffusers do. Where two
picks of a Beta schedule fall on one entry, it is taken once: many steps become fewer than were asked for.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..core.errors import ConfigError, did_you_mean
from . import beta as beta_law
from .shift import shifted
from .stochastic import FIRST_SIGMA

TABLE = 1000


def linear(steps: int, shift: float) -> Tensor:
    """S_a(1 - i / n): the default here; ComfyUI's `simple` and diffusers' `sigmas=linspace(1, 1/n, n)` up to the table."""
    return shifted(1 - torch.arange(steps + 1, dtype=torch.float64) / steps, shift)


def simple(steps: int, shift: float) -> Tensor:
    """ComfyUI's `simple`: every (1000 / n)-th entry of the table, counted from the noisy end. The stride is rounded before it is
    multiplied, as there: at 38 steps 19 strides end just below 500, and the entry is another one."""
    stride = TABLE / steps
    picks = torch.tensor([TABLE - int(i * stride) for i in range(steps)], dtype=torch.float64)
    return _closed(shifted(picks / TABLE, shift))


def normal(steps: int, shift: float) -> Tensor:
    """ComfyUI's `normal` and diffusers' default for SD3. The table's last time S_a(1/1000) is shifted a second time, in both."""
    low = float(shifted(torch.tensor(1 / TABLE, dtype=torch.float64), shift))
    return _closed(shifted(torch.linspace(1, low, steps, dtype=torch.float64), shift))


def sgm_uniform(steps: int, shift: float) -> Tensor:
    """ComfyUI's `sgm_uniform`: as `normal` with one more stop, whose last is replaced by 0."""
    low = float(shifted(torch.tensor(1 / TABLE, dtype=torch.float64), shift))
    return _closed(shifted(torch.linspace(1, low, steps + 1, dtype=torch.float64)[:-1], shift))


def karras(steps: int, shift: float) -> Tensor:
    """Evenly spaced in sigma^(1/7) between 1 and S_a(1/1000) (Karras et al. 2022, equation 5), then 0."""
    low = float(shifted(torch.tensor(1 / TABLE, dtype=torch.float64), shift)) ** (1 / 7)
    return _closed(torch.linspace(1, low, steps, dtype=torch.float64) ** 7)


def beta(steps: int, shift: float, *, a: float = 0.6, b: float = 0.6) -> Tensor:
    """ComfyUI's `beta`: entries of the table at quantiles of Beta(a, b), closer together towards both ends (Lee et al. 2024)."""
    quantiles = beta_law.quantile(1 - torch.arange(steps, dtype=torch.float64) / steps, a, b)
    # The middle of a symmetric law falls between two entries: decided by the number, not by the last bit of the quantile.
    entries = torch.round(torch.round((TABLE - 1) * quantiles, decimals=8)) + 1
    return _closed(shifted(torch.unique_consecutive(entries) / TABLE, shift))


def beta57(steps: int, shift: float) -> Tensor:
    """`beta` with Beta(0.5, 0.7), which leans towards the picture: RES4LYF's `beta57`."""
    return beta(steps, shift, a=0.5, b=0.7)


def _closed(times: Tensor) -> Tensor:
    return torch.cat([times, times.new_zeros(1)])


SCHEDULES: dict[str, Callable[[int, float], Tensor]] = {
    "linear": linear,
    "simple": simple,
    "normal": normal,
    "sgm_uniform": sgm_uniform,
    "karras": karras,
    "beta": beta,
    "beta57": beta57,
}


def sigmas(steps: int, *, shift: float = 1.0, schedule: str = "linear") -> Tensor:
    """`[steps + 1]` float32 on the CPU, first 1, last exactly 0; shorter where the schedule says so. Raises ConfigError."""
    if schedule not in SCHEDULES:
        raise ConfigError(
            f"unknown schedule '{schedule}'{did_you_mean(schedule, SCHEDULES)}",
            where="sample.schedule",
            do=f"use one of {', '.join(SCHEDULES)}",
        )
    if not 1 <= steps <= TABLE:
        raise ConfigError(f"{steps} steps", where="sample.steps", do=f"use 1 to {TABLE}; 28 is usual")
    if not shift > 0:
        raise ConfigError(f"shift {shift} is not positive", where="sample.shift", do="use 1.0 for none, 3.0 for SD3.5")
    return SCHEDULES[schedule](steps, shift).float()


def first_sigma(shift: float) -> float:
    """S_a(1 - 1e-4): where solvers begin that cannot begin at 1 (ComfyUI's `percent_to_sigma(1e-4)`)."""
    return float(shifted(torch.tensor(FIRST_SIGMA, dtype=torch.float64), shift))

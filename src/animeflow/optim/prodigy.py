"""Prodigy, which finds its own rate (Mishchenko and Defazio, arXiv 2306.06101). Knows prodigyopt; knows no schedule."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from ..core.errors import ConfigError, MissingExtra
from .adamw import AdamW, require_float32
from .borrowed import Borrowed, require_whole

SMALLEST = 0.1  # of a factor that is meant as one: rates of other optimizers lie far below
NUMBERS = ("d", "d_max", "d_numerator", "k")  # of a group, that the next step begins with


@dataclass(frozen=True)
class Prodigy:
    """Adam's step times d, an estimate of the distance from the start to the solution that only grows.

    Args:
        lr: multiplies d, and the schedule multiplies it; 1 is what the estimate is made for.
        d_coef: multiplies the estimate: the knob to turn. The model card's LoRAs have 3.
        d0: the first d: small enough to be wrong on one side only.
        safeguard_warmup: leave the rate out of the denominator of the estimate, so that a warm-up does not inflate d.
        use_bias_correction: Adam's.
        betas, eps, weight_decay: as of `AdamW`.
        rates, lora_plus: there is one rate for all, so these are refused.
    """

    lr: float = 1.0
    d_coef: float = 3.0
    d0: float = 1e-6
    betas: tuple[float, float] = (0.9, 0.99)
    eps: float = 1e-8
    weight_decay: float = 0.01
    safeguard_warmup: bool = True
    use_bias_correction: bool = True
    rates: Mapping[str, float] = field(default_factory=dict)
    lora_plus: float = 1.0

    def __post_init__(self) -> None:
        if self.lr < SMALLEST:
            raise ConfigError(
                f"a rate of {self.lr:g} leaves nothing of what prodigy finds",
                where="optim.lr",
                why="it multiplies the rate that prodigy finds by itself; other kinds' rates mean something else",
                do="set optim.lr=1, and turn optim.d_coef for more or less",
            )
        for name in ("d_coef", "d0"):
            if not getattr(self, name) > 0:
                raise ConfigError(
                    f"{name} {getattr(self, name)} is not above 0",
                    where=f"optim.{name}",
                    do={"d_coef": "1 to 3 are usual", "d0": "1e-6 is usual"}[name],
                )
        for name, asked in (("rates", bool(self.rates)), ("lora_plus", self.lora_plus != 1)):
            if asked:
                raise ConfigError(
                    f"prodigy has one rate for all weights, and {name} asks for several",
                    where=f"optim.{name}",
                    why="its estimate is of the distance that all of them go together",
                    do=f"leave {name} out, or set optim.kind=adamw",
                )
        self._adamw()

    def build(self, module: nn.Module) -> Borrowed:
        """The optimizer over every trainable parameter of `module`.

        Raises:
            MissingExtra: prodigyopt is not installed.
            ConfigError: weights are not float32, or are sharded.
        """
        make = _library()
        require_float32(module)
        require_whole(module, "prodigy", why="it sums over all weights, and would sum over those of one process only")
        groups = [{**group, "numbers": NUMBERS} for group in self._adamw().groups(module)]
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what kind of decay it has
            inner = make(
                groups,
                lr=self.lr,
                betas=self.betas,
                eps=self.eps,
                weight_decay=self.weight_decay,
                d0=float(self.d0),
                d_coef=self.d_coef,
                safeguard_warmup=self.safeguard_warmup,
                use_bias_correction=self.use_bias_correction,
            )
        return Borrowed(inner)

    def values(self, optimizer: torch.optim.Optimizer) -> dict[str, float]:
        """The estimate, and the rate that it makes of the schedule's: what AdamW would have as its learning rate."""
        group = optimizer.param_groups[0]
        return {"optim/d": group["d"], "optim/d_lr": group["d"] * group["lr"]}

    def _adamw(self) -> AdamW:
        return AdamW(lr=self.lr, betas=self.betas, eps=self.eps, weight_decay=self.weight_decay)


def _library() -> Any:
    try:
        import prodigyopt
    except ImportError as error:
        raise MissingExtra(
            "Prodigy needs a package that is not installed",
            where="optim.kind",
            do="pip install 'animeflow[prodigy]', or set optim.kind=adamw",
        ) from error
    return prodigyopt.Prodigy

"""Shift of time towards noise, and how it grows with the picture. Knows numbers; knows no schedule and no density.

S_a(t) = a t / (1 + (a - 1) t), so logit S_a(t) = logit t + ln a, S_a after S_b is S_ab, and the inverse of S_a is S_1/a.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ..core.errors import ConfigError, did_you_mean

TOKENS_1MP = 4096
"""Tokens of a 1024 x 1024 picture at 16 pixels per token, the size that published shifts are quoted for."""


def shifted(t: Tensor, factor: float) -> Tensor:
    """S_a(t) in the dtype of `t`."""
    return factor * t / (1 + (factor - 1) * t)


class Shift(Protocol):
    """How far time is shifted for a picture of so many tokens."""

    def factor(self, tokens: int) -> float: ...


def _positive(value: float, where: str) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise ConfigError(f"shift {value} is not positive", where=where, do="use 1.0 for no shift, 3.0 as SD3 does")


@dataclass(frozen=True)
class FixedShift:
    """The same factor for every size. 1.0 is no shift."""

    value: float = 1.0

    def __post_init__(self) -> None:
        _positive(self.value, "recipe.shift.value")

    def factor(self, tokens: int) -> float:
        return self.value


@dataclass(frozen=True)
class SqrtAreaShift:
    """a = value * sqrt(tokens / 4096): SD3, section 5.3.2. 512 x 512 has 1.5, 1536 x 1536 has 4.5 when `value` is 3."""

    value: float = 3.0

    def __post_init__(self) -> None:
        _positive(self.value, "recipe.shift.value")

    def factor(self, tokens: int) -> float:
        return self.value * math.sqrt(tokens / TOKENS_1MP)


@dataclass(frozen=True)
class FluxMuShift:
    """a = e^mu with mu linear in tokens: 0.5 at 256, 1.15 at 4096 (Flux's released sampler)."""

    mu_256: float = 0.5
    mu_4096: float = 1.15

    def factor(self, tokens: int) -> float:
        mu = self.mu_256 + (self.mu_4096 - self.mu_256) * (tokens - 256) / (4096 - 256)
        return math.exp(mu)


def build(mode: str, value: float | None = None) -> Shift:
    """The shift a config names: `fixed` or `sqrt_area` with a value, `flux_mu` without. Raises ConfigError."""
    modes = ("fixed", "sqrt_area", "flux_mu")
    if mode not in modes:
        raise ConfigError(
            f"unknown shift mode '{mode}'{did_you_mean(mode, modes)}",
            where="recipe.shift.mode",
            do=f"use one of {', '.join(modes)}",
        )
    if mode == "flux_mu":
        if value is not None:
            raise ConfigError(
                "shift mode flux_mu takes no value", where="recipe.shift.value", do="set recipe.shift.value=null"
            )
        return FluxMuShift()
    if value is None:
        raise ConfigError(
            f"shift mode {mode} needs a value", where="recipe.shift.value", do="set recipe.shift.value=3.0"
        )
    return FixedShift(value) if mode == "fixed" else SqrtAreaShift(value)

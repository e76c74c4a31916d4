"""Which t a training step draws. Knows one uniform number per image; knows no image.

A density is its map from u in [0, 1) to t. All arithmetic is float64 and the answer is rounded once, to float32, which is
the dtype t keeps until the model has read it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..core.errors import ConfigError, did_you_mean
from .shift import TOKENS_1MP, FixedShift, Shift, shifted


class Density(Protocol):
    """A law of t in [0, 1]."""

    def quantile(self, u: Tensor, *, tokens: int = TOKENS_1MP) -> Tensor:
        """t for uniform `u`, float32, same shape. `tokens` is the size of the picture; only a shift by area reads it."""


def _float32(t: Tensor) -> Tensor:
    return t.clamp(0, 1).float()


@dataclass(frozen=True)
class Uniform:
    """Every t alike."""

    def quantile(self, u: Tensor, *, tokens: int = TOKENS_1MP) -> Tensor:
        return _float32(u.double())


@dataclass(frozen=True)
class LogitNormal:
    """logit t ~ N(mean, std^2), so t = sigmoid(mean + std * Phi^-1(u)): SD3, section 3.1."""

    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        if not self.std > 0:
            raise ConfigError(f"logit-normal std {self.std} is not positive", where="recipe.density.std", do="use 1.0")

    def quantile(self, u: Tensor, *, tokens: int = TOKENS_1MP) -> Tensor:
        return _float32(torch.sigmoid(self.mean + self.std * torch.special.ndtri(u.double())))


@dataclass(frozen=True)
class Mode:
    """t = 1 - u - s (cos^2(pi u / 2) - 1 + u): SD3, section 3.1. Note that t falls while u rises.

    Monotone, and so a law on [0, 1], for -1 <= s <= 2 / (pi - 2) = 1.75; SD3 uses 1.29.
    """

    scale: float = 1.29

    def __post_init__(self) -> None:
        if not -1 <= self.scale <= 2 / (math.pi - 2):
            raise ConfigError(
                f"mode scale {self.scale} is outside -1 ... {2 / (math.pi - 2):.3f}",
                where="recipe.density.scale",
                why="beyond it the map from u to t folds back and leaves [0, 1]",
                do="use 1.29",
            )

    def quantile(self, u: Tensor, *, tokens: int = TOKENS_1MP) -> Tensor:
        u = u.double()
        return _float32(1 - u - self.scale * (torch.cos(math.pi * u / 2).square() - 1 + u))


@dataclass(frozen=True)
class CosMap:
    """t = 1 - 1 / (tan(pi u / 2) + 1), density 2 / (pi (1 - 2 t + 2 t^2)): SD3, section 3.1."""

    def quantile(self, u: Tensor, *, tokens: int = TOKENS_1MP) -> Tensor:
        return _float32(1 - 1 / (torch.tan(math.pi * u.double() / 2) + 1))


@dataclass(frozen=True)
class Shifted:
    """`density`, then time shifted towards noise. LN(m, s) shifted by a is LN(m + ln a, s)."""

    density: Density
    shift: Shift

    def quantile(self, u: Tensor, *, tokens: int = TOKENS_1MP) -> Tensor:
        return _float32(shifted(self.density.quantile(u, tokens=tokens).double(), self.shift.factor(tokens)))


@dataclass(frozen=True)
class Floor:
    """Mixture: `share` of the images get t uniform on [low, 1], the others follow `density`.

    A sampler decides the brightness of a 1024 x 1024 picture at t = 0.985 ... 0.992, where LN(0, 1) puts 5e-5 of its mass;
    2 % there teach it. The one u that picks the part is stretched and used again inside it, so the map preserves
    measure (evenly spread u stay evenly spread in each part); it is not monotone.
    """

    density: Density
    share: float = 0.02
    low: float = 0.97

    def __post_init__(self) -> None:
        if not (0 <= self.share < 1 and 0 <= self.low < 1):
            raise ConfigError(
                f"floor share {self.share} or low {self.low} is outside [0, 1)",
                where="recipe.density.floor_share, recipe.density.floor_low",
                do="use 0.02 and 0.97, or share 0 for no floor",
            )

    def quantile(self, u: Tensor, *, tokens: int = TOKENS_1MP) -> Tensor:
        u = u.double()
        main = self.density.quantile((u - self.share).clamp(min=0) / (1 - self.share), tokens=tokens)
        if self.share == 0:
            return main
        return torch.where(u < self.share, _float32(self.low + (1 - self.low) * u / self.share), main)


def build(
    law: str = "logit_normal",
    *,
    mean: float = 0.0,
    std: float = 1.0,
    scale: float = 1.29,
    shift: Shift | float = 1.0,
    floor_share: float = 0.02,
    floor_low: float = 0.97,
) -> Density:
    """The density a config names: `uniform`, `logit_normal` (mean, std), `mode` (scale) or `cosmap`; then shift, then floor."""
    laws: dict[str, Density] = {
        "uniform": Uniform(),
        "logit_normal": LogitNormal(mean, std),
        "mode": Mode(scale),
        "cosmap": CosMap(),
    }
    if law not in laws:
        raise ConfigError(
            f"unknown timestep density '{law}'{did_you_mean(law, laws)}",
            where="recipe.density.law",
            do=f"use one of {', '.join(laws)}",
        )
    by = FixedShift(shift) if isinstance(shift, int | float) else shift
    return Floor(Shifted(laws[law], by), share=floor_share, low=floor_low)


def sd3_paper() -> Density:
    """SD3's own law at 1024 x 1024 with our floor: LN(0, 1), shift 3, 2 % on [0.97, 1]. For the v loss."""
    return build("logit_normal", shift=3.0)


def kohya_sd3_compat() -> Density:
    """LN(0, 1), no shift, no floor: the default of sd-scripts' and diffusers' SD3 scripts. For the x0 loss."""
    return build("logit_normal", shift=1.0, floor_share=0.0)


def uniform() -> Density:
    """Every t alike: no shift, no floor."""
    return Uniform()

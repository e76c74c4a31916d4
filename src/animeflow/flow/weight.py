"""Weight of the loss as a function of t, always expressed for the velocity error. Knows t; knows no model.

With D = x_t - t v and noise^ = x_t + (1 - t) v, an error in x0 is t times the error in v and an error in noise is (1 - t)
times it. So training on another prediction is training on velocity with another weight, and there is one loss to read:

    |D - x0|^2 = t^2 |v^ - v|^2        |noise^ - noise|^2 = (1 - t)^2 |v^ - v|^2
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.errors import ConfigError, did_you_mean
from .density import Density
from .shift import TOKENS_1MP

SPACES = ("v", "x0", "eps")
FORMS = ("none", "cosmap", "sigma_sqrt")


@dataclass(frozen=True)
class Weight:
    """w(t) in velocity space.

    Args:
        space: what the squared error is of: `v` (weight 1), `x0` (t^2, what sd-scripts' and diffusers' SD3 scripts do)
            or `eps` ((1 - t)^2).
        form: a factor on top: `none`, `cosmap` (2 / (pi (1 - 2 t + 2 t^2))) or `sigma_sqrt` (t^-2, for `x0` only).
    """

    space: str = "v"
    form: str = "none"

    def __post_init__(self) -> None:
        for value, known, where in (
            (self.space, SPACES, "recipe.weight.space"),
            (self.form, FORMS, "recipe.weight.form"),
        ):
            if value not in known:
                raise ConfigError(
                    f"unknown {where} '{value}'{did_you_mean(value, known)}",
                    where=where,
                    do=f"use one of {', '.join(known)}",
                )
        if self.form == "sigma_sqrt" and self.space != "x0":
            raise ConfigError(
                f"weight form sigma_sqrt with space {self.space}",
                where="recipe.weight.form",
                why="t^-2 undoes the t^2 of the x0 loss; on any other loss it grows without bound as t goes to 0",
                do="use space=v with form=none, which is what sigma_sqrt makes of x0",
            )

    def __call__(self, t_B: Tensor) -> Tensor:
        """`[B]` weights, float32."""
        t = t_B.float()
        if self.form == "sigma_sqrt":
            return torch.ones_like(t)
        space = {"v": torch.ones_like(t), "x0": t.square(), "eps": (1 - t).square()}[self.space]
        return space * 2 / (math.pi * (1 - 2 * t + 2 * t * t)) if self.form == "cosmap" else space


def emphasis(
    density: Density, weight: Weight, *, bins: int = 20, tokens: int = TOKENS_1MP, draws: int = 100_000
) -> list[float]:
    """Share of the loss weight in each of `bins` equal bins of t: the product of density and weight, which is what two recipes
    must have in common to train alike. Written at the start of a run."""
    u = (torch.arange(draws, dtype=torch.float64) + 0.5) / draws
    t = density.quantile(u, tokens=tokens)
    total = torch.zeros(bins, dtype=torch.float64)
    total.index_add_(0, (t * bins).long().clamp(max=bins - 1), weight(t).double())
    return (total / total.sum()).tolist()

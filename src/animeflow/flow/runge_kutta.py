"""Explicit Runge-Kutta methods: coefficients, each from its paper, and one step. Knows tensors; knows no schedule and no model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from . import path
from .solution import VelocityField


@dataclass(frozen=True)
class Tableau:
    """Stage i is evaluated at (t - c_i h, x - h sum_j a_ij k_j); the step is x - h sum_i b_i k_i.

    Attributes:
        order: of the step; the step-size rule uses it as its exponent.
        b_error: b - b^, weights of the embedded error estimate; empty where the method has none. Methods with one are "first
            same as last": their last stage is the first of the next step.
    """

    name: str
    order: int
    c: tuple[float, ...]
    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    b_error: tuple[float, ...] = ()


EULER = Tableau("euler", 1, c=(0.0,), a=((),), b=(1.0,))

HEUN = Tableau("heun", 2, c=(0.0, 1.0), a=((), (1.0,)), b=(1 / 2, 1 / 2))

# Bogacki and Shampine 1989.
BOSH3 = Tableau(
    "bosh3",
    3,
    c=(0.0, 1 / 2, 3 / 4, 1.0),
    a=((), (1 / 2,), (0.0, 3 / 4), (2 / 9, 1 / 3, 4 / 9)),
    b=(2 / 9, 1 / 3, 4 / 9, 0.0),
    b_error=(2 / 9 - 7 / 24, 1 / 3 - 1 / 4, 4 / 9 - 1 / 3, -1 / 8),
)

# Dormand and Prince 1980.
DOPRI5 = Tableau(
    "dopri5",
    5,
    c=(0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0),
    a=(
        (),
        (1 / 5,),
        (3 / 40, 9 / 40),
        (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
        (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
    ),
    b=(35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0.0),
    b_error=(
        35 / 384 - 5179 / 57600,
        0.0,
        500 / 1113 - 7571 / 16695,
        125 / 192 - 393 / 640,
        -2187 / 6784 + 92097 / 339200,
        11 / 84 - 187 / 2100,
        -1 / 40,
    ),
)


def advance(x: Tensor, h_B: Tensor, slopes: list[Tensor], b: tuple[float, ...]) -> Tensor:
    """x - h sum_i b_i k_i: one step of length `h_B` towards t = 0."""
    total = torch.zeros_like(x)
    for weight, k in zip(b, slopes, strict=False):
        if weight:
            total = total + weight * k
    return x - path.over_latents(h_B, x) * total


def stages(
    velocity: VelocityField, x: Tensor, t_B: Tensor, h_B: Tensor, k: Tensor, tableau: Tableau, *, count: int
) -> list[Tensor]:
    """The first `count` slopes of a step of length `h_B` from (x, t_B), whose first slope `k` is known."""
    slopes = [k]
    for a, c in zip(tableau.a[1:count], tableau.c[1:count], strict=True):
        slopes.append(velocity(advance(x, h_B, slopes, a), t_B - c * h_B))
    return slopes

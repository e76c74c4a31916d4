"""The quantile of the Beta law, for schedules spaced by it. Knows numbers; knows no schedule.

    I_x(a, b) = x^a / B(a, b) sum_k c_k x^k / (a + k),      c_0 = 1,  c_k = c_{k-1} (k - b) / k

The series is that of (1 - y)^(b - 1), integrated term by term against y^(a - 1); it falls like 2^-k for x <= 1/2, and the other
half follows from I_x(a, b) = 1 - I_{1-x}(b, a).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

TERMS, HALVINGS = 60, 60  # 2^-60 is below what float64 resolves


def cdf(x: Tensor, a: float, b: float) -> Tensor:
    """I_x(a, b), the share of Beta(a, b) below `x` in [0, 1]; float64, same shape."""
    x = x.double()
    upper = x > 0.5
    low, high = _lower_half(torch.where(upper, 0.0, x), a, b), _lower_half(torch.where(upper, 1 - x, 0.0), b, a)
    return torch.where(upper, 1 - high, low)


def quantile(u: Tensor, a: float, b: float) -> Tensor:
    """x with I_x(a, b) = `u` in [0, 1], by bisection; float64, same shape."""
    u = u.double()
    low, high = torch.zeros_like(u), torch.ones_like(u)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        below = cdf(middle, a, b) < u
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


def _lower_half(x: Tensor, a: float, b: float) -> Tensor:
    c, total = 1.0, torch.full_like(x, 1 / a)
    for k in range(1, TERMS):
        c *= (k - b) / k
        total = total + c / (a + k) * x**k
    inverse_beta = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b))
    return inverse_beta * x**a * total

"""Solvers that add fresh noise at every step, in their rectified-flow forms. Knows tensors; knows no schedule and no model.

All of them are linear in what they have at hand, so a solver is a rule that gives the weights of one step from sigma to sigma':

    x' = w x + w_0 D_i + w_1 D_{i-1} + w_2 D_{i-2} + w_n s_noise eps,      D = x - sigma v

`eta` is how much of the randomness of the reverse SDE is used: at 0 every rule steps along the flow itself and draws nothing.
`s_noise` scales the noise alone: at 0 the drift of the SDE stays, which is another equation than the flow. In the formulas below
alpha = 1 - sigma, l = sigma / alpha, lambda = -ln l, and a prime marks the end of the step.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ..core.errors import ConfigError
from .solution import OnStep, Solution, Step, VelocityField, finite_or_raise

FIRST_SIGMA = 1 - 1e-4
"""Where a rule begins that needs lambda, which is infinite at sigma = 1. With a shift it is S_a of this: `schedule.first_sigma`."""

Noise = Callable[[int], Tensor]
"""Standard normal noise of a step, `[B, C, h, w]`: a function of the step, so that two halves of a batch equal the whole."""


@dataclass(frozen=True)
class Weights:
    """Of one step: of the state, of the denoised estimates (newest first), and of the noise."""

    state: float
    denoised: tuple[float, ...]
    noise: float


Rule = Callable[[Sequence[float], int, float], Weights]
"""`(sigmas, i, eta)` -> weights of the step from `sigmas[i]` to `sigmas[i + 1]`, which is never the last, to 0."""


def euler_ancestral(sigmas: Sequence[float], i: int, eta: float) -> Weights:
    """Euler to sigma_d = sigma' (1 + (sigma' / sigma - 1) eta), then noise until signal and noise stand as at sigma'."""
    now, then = sigmas[i], sigmas[i + 1]
    down = max(then * (1 + (then / now - 1) * eta), 0.0)  # an eta above 1 cannot take away more than all the noise
    kept = (1 - then) / (1 - down)
    noise = math.sqrt(max(then**2 - (down * kept) ** 2, 0.0))
    return Weights(kept * down / now, (kept * (1 - down / now),), noise)


def dpmpp_2m_sde(sigmas: Sequence[float], i: int, eta: float, *, heun: bool = False) -> Weights:
    """DPM-Solver++(2M) for the SDE (Lu et al. 2022): exact in lambda for D linear in it. With h = lambda' - lambda and
    g = 1 - e^(-h (1 + eta)),

        x' = (sigma' / sigma) e^(-h eta) x + alpha' g D + alpha' c (h / h_old) (D - D_old) + sigma' sqrt(1 - e^(-2 h eta)) eps

    with c = g / 2 (midpoint) or 1 - g / (h (1 + eta)) (heun).
    """
    now, then, h = sigmas[i], sigmas[i + 1], _lambda(sigmas[i + 1]) - _lambda(sigmas[i])
    g = -math.expm1(-h * (1 + eta))
    turn = 0.0
    if i > 0:
        c = 1 - g / (h * (1 + eta)) if heun else g / 2
        turn = c * h / (_lambda(now) - _lambda(sigmas[i - 1]))
    alpha = 1 - then
    state, noise = then / now * math.exp(-h * eta), then * math.sqrt(-math.expm1(-2 * h * eta))
    return Weights(state, (alpha * (g + turn), -alpha * turn), noise)


def dpmpp_2m_sde_heun(sigmas: Sequence[float], i: int, eta: float) -> Weights:
    """`dpmpp_2m_sde` with the other c."""
    return dpmpp_2m_sde(sigmas, i, eta, heun=True)


def er_sde(sigmas: Sequence[float], i: int, eta: float, *, stages: int = 3, points: int = 200) -> Weights:
    """Extended reverse-time SDE solver (Cui et al. 2023) in l, with the noise scale phi(z) = z (e^(z^0.3) + 10)^eta:

        x' / alpha' = rho x / alpha + (1 - rho) D + (d + phi(l') I_0) D' + (d^2 / 2 + phi(l') I_1) D'' + sqrt(l'^2 - rho^2 l^2) eps
        rho = phi(l') / phi(l),  d = l' - l,  I_k = integral from l' to l of (z - l)^k / phi(z) dz

    D' and D'' are divided differences over the last two and three estimates. The integrals are `points` left rectangles: ComfyUI
    takes 200, and more would draw another picture.
    """
    l_then, l_now = _l(sigmas[i + 1]), _l(sigmas[i])
    delta, phi, alpha = l_then - l_now, _noise_scale(l_then, eta), 1 - sigmas[i + 1]
    rho, dz = phi / _noise_scale(l_now, eta), -delta / points
    z_phi = [(z, _noise_scale(z, eta)) for z in (l_then + k * dz for k in range(points))]
    first = delta + phi * dz * math.fsum(1 / scale for _, scale in z_phi)
    second = delta**2 / 2 + phi * dz * math.fsum((z - l_now) / scale for z, scale in z_phi)
    newest, middle, oldest = 1 - rho, 0.0, 0.0
    if stages > 1 and i > 0:
        slope = 1 / (l_now - _l(sigmas[i - 1]))
        newest, middle = newest + first * slope, -first * slope
        if stages > 2 and i > 1:
            slope_old = 1 / (_l(sigmas[i - 1]) - _l(sigmas[i - 2]))
            bend = second * 2 / (l_now - _l(sigmas[i - 2]))
            newest, middle, oldest = newest + bend * slope, middle - bend * (slope + slope_old), bend * slope_old
    noise = alpha * math.sqrt(max(l_then**2 - (rho * l_now) ** 2, 0.0))
    return Weights(alpha / (1 - sigmas[i]) * rho, (alpha * newest, alpha * middle, alpha * oldest), noise)


def _lambda(sigma: float) -> float:
    return math.log1p(-sigma) - math.log(sigma)


def _l(sigma: float) -> float:
    return sigma / (1 - sigma)


def _noise_scale(z: float, eta: float) -> float:
    return z * (math.exp(z**0.3) + 10) ** eta


@dataclass(frozen=True)
class Stochastic:
    """A rule by its name. `from_one` where sigma = 1 itself needs no care."""

    rule: Rule
    from_one: bool = False


STOCHASTIC = {
    "euler_ancestral": Stochastic(euler_ancestral, from_one=True),
    "dpmpp_2m_sde": Stochastic(dpmpp_2m_sde),
    "dpmpp_2m_sde_heun": Stochastic(dpmpp_2m_sde_heun),
    "er_sde": Stochastic(er_sde),
}


def integrate(
    velocity: VelocityField,
    x: Tensor,
    sigmas: Sequence[float],
    rule: Rule,
    *,
    eta: float = 1.0,
    s_noise: float = 1.0,
    noise: Noise | None = None,
    on_step: OnStep | None = None,
) -> Solution:
    """Along falling `sigmas` by the weights of `rule`; the step to 0 is the denoised estimate. The state keeps the dtype of `x`.

    Raises ConfigError on a negative strength, and without `noise` where some is to be added.
    """
    random = _checked(eta, s_noise, noise)
    size, total = x.shape[0], len(sigmas) - 1
    estimates: deque[Tensor] = deque(maxlen=3)  # newest first
    for i, (now, then) in enumerate(pairwise(sigmas)):
        t_B = torch.full((size,), now, device=x.device)
        estimates.appendleft(x - now * velocity(x, t_B))
        if on_step:
            on_step(Step(i, total, t_B, x, estimates[0]))
        if then == 0:
            x = estimates[0]
            continue
        weights = rule(sigmas, i, eta)
        x = weights.state * x
        for weight, estimate in zip(weights.denoised, estimates, strict=False):
            x = x + weight * estimate
        if random is not None:
            x = x + weights.noise * s_noise * random(i).to(x)
    finite_or_raise(x)
    counts = torch.full((size,), total, dtype=torch.long)
    return Solution(x, counts, counts.clone(), torch.zeros(size, dtype=torch.bool))


def _checked(eta: float, s_noise: float, noise: Noise | None) -> Noise | None:
    """The noise to use, None where none is to be added."""
    for name, value in (("eta", eta), ("s_noise", s_noise)):
        if not (math.isfinite(value) and value >= 0):
            raise ConfigError(
                f"{name} {value} is negative or not finite", where=f"sample.{name}", do="use 1.0, or 0 for none"
            )
    if eta == 0 or s_noise == 0:
        return None
    if noise is None:
        raise ConfigError(
            "this solver adds noise at every step, and was given none",
            where="sample.solver",
            do="give solve(..., noise=lambda step: ...), or eta=0",
        )
    return noise

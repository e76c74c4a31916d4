"""Integrate a velocity from noise (t = 1) to data (t = 0). Knows tensors; knows no model, guidance or picture.

    dx/dt = v(x, t);     Euler:  x' = x + (t' - t) v(x, t)

The state and every t are float32. The velocity is never replaced by zero at t = 0: a stage there asks the model at
t = 0.001, which it was trained for, and nothing is divided by t. Solvers that add noise on the way are in `stochastic`.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from ..core.errors import ConfigError, did_you_mean
from . import adaptive, path, stochastic
from .runge_kutta import BOSH3, DOPRI5, EULER, HEUN, Tableau, advance, stages
from .solution import OnStep, Solution, Step, VelocityField, finite_or_raise
from .stochastic import FIRST_SIGMA, STOCHASTIC, Noise

TABLEAUS = {tableau.name: tableau for tableau in (EULER, HEUN, BOSH3, DOPRI5)}
ADAPTIVE = tuple(name for name, tableau in TABLEAUS.items() if tableau.b_error)  # they can choose their own steps
SOLVERS = (*TABLEAUS, *STOCHASTIC)
T_MIN = 1e-3  # the least t a model is asked at
RTOL, ATOL, MAX_NFE = 10**-2.5, 10**-3.5, 200


def solve(
    velocity: VelocityField,
    x_BChw: Tensor,
    sigmas: Tensor | None = None,
    *,
    solver: str = "euler",
    rtol: float = RTOL,
    atol: float = ATOL,
    max_nfe: int = MAX_NFE,
    eta: float = 1.0,
    s_noise: float = 1.0,
    noise: Noise | None = None,
    first_sigma: float = FIRST_SIGMA,
    on_step: OnStep | None = None,
) -> Solution:
    """Integrate `x_BChw` along `velocity`.

    Args:
        sigmas: falling times to stop at. Without them `bosh3` and `dopri5` choose their own steps from 1 to 0, per sample.
        rtol, atol, max_nfe: of the adaptive solvers; `max_nfe` bounds each sample's adaptive evaluations, then Euler ends it in 20.
        eta, s_noise, noise: of the stochastic solvers: strength of the SDE, scale of its noise, and the noise of each step.
        first_sigma: of those that cannot begin at 1: what they put in its place, `schedule.first_sigma(shift)`.
        on_step: called before every step with the state and the denoised estimate.

    Raises ConfigError on an unknown solver, one of fixed steps without sigmas, a stochastic one without noise, or sigmas that do
    not fall.
    """
    if solver not in SOLVERS:
        raise ConfigError(
            f"unknown solver '{solver}'{did_you_mean(solver, SOLVERS)}",
            where="sample.solver",
            do=f"use one of {', '.join(SOLVERS)}",
        )
    if sigmas is None and solver not in ADAPTIVE:
        raise ConfigError(
            f"solver {solver} needs a schedule",
            where="sample.steps",
            do=f"give sigmas, or use {' or '.join(ADAPTIVE)}, which choose their steps",
        )

    def asked(x: Tensor, t_B: Tensor) -> Tensor:
        return velocity(x, t_B.clamp(min=T_MIN)).float()

    x = x_BChw.float()
    if sigmas is None:
        return adaptive.integrate(asked, x, TABLEAUS[solver], rtol=rtol, atol=atol, max_nfe=max_nfe, on_step=on_step)
    if solver in TABLEAUS:
        return _fixed(asked, x, _falling(sigmas.float()), TABLEAUS[solver], on_step)
    method = STOCHASTIC[solver]
    times = _falling(sigmas if method.from_one else _opened(sigmas, first_sigma))
    return stochastic.integrate(asked, x, times, method.rule, eta=eta, s_noise=s_noise, noise=noise, on_step=on_step)


def _opened(sigmas: Tensor, first_sigma: float) -> Tensor:
    """`sigmas` with what stands in for 1 at their beginning."""
    sigmas = sigmas.double()
    return torch.where(sigmas >= 1, torch.full_like(sigmas, first_sigma), sigmas)


def _falling(sigmas: Tensor) -> list[float]:
    if sigmas.ndim != 1 or len(sigmas) < 2 or not bool((sigmas.diff() < 0).all()):
        raise ConfigError(
            f"sigmas do not fall: {sigmas.tolist()}", where="sample.schedule", do="use flow.schedule.sigmas"
        )
    return sigmas.tolist()  # a float32 number survives the way through Python's float and back


def _fixed(
    velocity: VelocityField, x: Tensor, times: list[float], tableau: Tableau, on_step: OnStep | None
) -> Solution:
    size, nfe = x.shape[0], 0
    for i, (now, then) in enumerate(pairwise(times)):
        t_B = torch.full((size,), now, device=x.device)
        h_B = torch.full((size,), now - then, device=x.device)
        k = velocity(x, t_B)
        if on_step:
            on_step(Step(i, len(times) - 1, t_B, x, path.denoised(x, k, t_B)))
        # Heun's second slope would be asked at t = 0, so its last interval is Euler's.
        method = EULER if tableau is HEUN and then == 0 else tableau
        slopes = stages(velocity, x, t_B, h_B, k, method, count=_used(method))
        x = advance(x, h_B, slopes, method.b)
        nfe += len(slopes)
    finite_or_raise(x)
    counts = torch.full((size,), nfe, dtype=torch.long)
    return Solution(x, counts, torch.full_like(counts, len(times) - 1), torch.zeros(size, dtype=torch.bool))


def _used(tableau: Tableau) -> int:
    """Stages that the step itself needs; the last one of an embedded pair serves only the error estimate."""
    return max(i for i, b in enumerate(tableau.b) if b) + 1

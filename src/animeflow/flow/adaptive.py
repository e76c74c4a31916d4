"""Step-size control of embedded Runge-Kutta pairs, sample by sample. Knows tensors; knows no model.

Each sample has its own time, step and error norm, so its picture does not depend on its neighbours in the batch. Hairer,
Norsett and Wanner, Solving Ordinary Differential Equations I, section II.4:

    err = h sum_i (b_i - b^_i) k_i,   r = rms(err / (atol + rtol max(|x|, |x'|))),   accept when r < 1
    h <- h clip(0.9 r^(-1/q), 0.2, 10)
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.errors import AnimeflowError
from . import path
from .runge_kutta import EULER, Tableau, advance, stages
from .solution import OnStep, Solution, Step, VelocityField, finite_or_raise

SAFETY, SHRINK, GROW = 0.9, 0.2, 10.0
FINISH_STEPS = 20  # of Euler on a linear grid, for samples that reached max_nfe


def integrate(
    velocity: VelocityField,
    x: Tensor,
    tableau: Tableau,
    *,
    rtol: float,
    atol: float,
    max_nfe: int,
    on_step: OnStep | None = None,
) -> Solution:
    """From t = 1 to 0. Samples that have arrived, or have spent `max_nfe`, stand still while the others go on."""
    size, cost = (
        x.shape[0],
        len(tableau.c) - 1,
    )  # first same as last: a try costs one evaluation less than it has stages
    t_B = torch.ones(size, device=x.device)
    k = velocity(x, t_B)
    h_B = first_step(velocity, x, t_B, k, tableau.order, rtol=rtol, atol=atol)
    nfe_B = torch.full((size,), 2, device=x.device)
    steps_B = torch.zeros_like(nfe_B)
    tries = 0
    while bool((moving_B := (t_B > 0) & (nfe_B + cost <= max_nfe)).any()):
        if on_step:
            on_step(Step(tries, None, t_B, x, path.denoised(x, k, t_B)))
        h_B = torch.minimum(h_B, t_B)
        slopes = stages(velocity, x, t_B, h_B, k, tableau, count=len(tableau.c))
        x_next = advance(x, h_B, slopes, tableau.b)
        error = advance(torch.zeros_like(x), h_B, slopes, tableau.b_error)
        r_B = rms(error / (atol + rtol * torch.maximum(x.abs(), x_next.abs())))
        _finite_or_raise(r_B, moving_B, t_B)
        accepted_B = moving_B & (r_B < 1)
        here = accepted_B.reshape(-1, *([1] * (x.ndim - 1)))
        x, k = torch.where(here, x_next, x), torch.where(here, slopes[-1], k)
        t_B = torch.where(accepted_B, torch.where(h_B >= t_B, 0.0, t_B - h_B), t_B)
        h_B = torch.where(moving_B, h_B * (SAFETY * r_B ** (-1 / tableau.order)).clamp(SHRINK, GROW), h_B)
        nfe_B, steps_B, tries = nfe_B + cost * moving_B, steps_B + accepted_B, tries + 1
    capped_B = t_B > 0
    if bool(capped_B.any()):
        x, steps_B, nfe_B = (
            _finish(velocity, x, t_B),
            steps_B + FINISH_STEPS * capped_B,
            nfe_B + FINISH_STEPS * capped_B,
        )
    finite_or_raise(x)
    return Solution(x, nfe_B.cpu(), steps_B.cpu(), capped_B.cpu())


def rms(x_BChw: Tensor) -> Tensor:
    """Root mean square of every sample, `[B]`."""
    return x_BChw.flatten(1).square().mean(1).sqrt()


def first_step(
    velocity: VelocityField, x: Tensor, t_B: Tensor, k: Tensor, order: int, *, rtol: float, atol: float
) -> Tensor:
    """Hairer's starting step, `[B]`: from the sizes of x, its slope and how fast the slope turns. One evaluation."""
    scale = atol + rtol * x.abs()
    d0, d1 = rms(x / scale), rms(k / scale)
    h0 = torch.where((d0 < 1e-5) | (d1 < 1e-5), 1e-6, 0.01 * d0 / d1.clamp(min=1e-5)).clamp(max=1.0)
    k1 = velocity(advance(x, h0, [k], EULER.b), t_B - h0)
    d2 = rms((k1 - k) / scale) / h0
    steepest = torch.maximum(d1, d2)
    h1 = torch.where(steepest <= 1e-15, (h0 * 1e-3).clamp(min=1e-6), (0.01 / steepest.clamp(min=1e-15)) ** (1 / order))
    return torch.minimum(100 * h0, h1)


def _finish(velocity: VelocityField, x: Tensor, t_B: Tensor) -> Tensor:
    """Euler from wherever each sample is, in equal steps; a sample that has arrived has steps of length 0."""
    h_B = t_B / FINISH_STEPS
    for i in range(FINISH_STEPS):
        x = advance(x, h_B, [velocity(x, t_B * (1 - i / FINISH_STEPS))], EULER.b)
    return x


def _finite_or_raise(r_B: Tensor, moving_B: Tensor, t_B: Tensor) -> None:
    bad_B = moving_B & ~torch.isfinite(r_B)
    if bool(bad_B.any()):
        where = ", ".join(f"sample {i} at t = {float(t_B[i]):.4f}" for i in bad_B.nonzero().flatten().tolist())
        raise AnimeflowError(
            f"the model's velocity is not finite: {where}",
            where="sampling",
            do="use float32 or bf16 instead of fp16, a lower cfg, or an earlier checkpoint",
        )

"""Straight path from data (t = 0) to noise (t = 1). Knows tensors; knows no model and no batch.

    x_t = (1 - t) x0 + t noise        v = dx_t/dt = noise - x0        D = x0^ = x_t - t v

Everything here is float32 whatever the caller's autocast says: rounding t to bf16 trains on another noise level than the
model is told.
"""

from __future__ import annotations

from torch import Tensor


def over_latents(t_B: Tensor, x_BChw: Tensor) -> Tensor:
    """`[B]` -> `[B, 1, 1, 1]` in float32 on the device of `x_BChw` (any number of axes after the first)."""
    return t_B.float().to(x_BChw.device).reshape(-1, *([1] * (x_BChw.ndim - 1)))


def interpolate(x0_BChw: Tensor, noise_BChw: Tensor, t_B: Tensor) -> Tensor:
    """The noisy latent x_t, float32."""
    x0, noise, t = x0_BChw.float(), noise_BChw.float(), over_latents(t_B, x0_BChw)
    return (1 - t) * x0 + t * noise


def velocity(x0_BChw: Tensor, noise_BChw: Tensor) -> Tensor:
    """The target of the velocity recipe, float32."""
    return noise_BChw.float() - x0_BChw.float()


def denoised(x_BChw: Tensor, v_BChw: Tensor, t_B: Tensor) -> Tensor:
    """The data that velocity `v` at (x, t) points at, D = x - t v."""
    return x_BChw.float() - over_latents(t_B, x_BChw) * v_BChw.float()

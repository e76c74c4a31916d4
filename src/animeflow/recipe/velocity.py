"""Predict the velocity from data to noise, and keep what the base said where nothing new is taught. Knows batches, density and
weight; knows no family, no Conditioning key and no library of additions."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from ..core import seed as keyed
from ..core.batch import Batch
from ..core.errors import ConfigError
from ..flow import density as densities
from ..flow import path
from ..flow.density import Density
from ..flow.weight import Weight
from .masked import BACKGROUND, mean_square
from .protocol import LossReport, Phase


class Velocity:
    """A recipe of one phase: squared error of the velocity at one keyed (noise, t) per image and visit.

    Args:
        learner: a module called as `learner(x_BChw, t_B, conditioning)`, returning `[B, C, h, w]`.
        density: law of t; the SD3 law with floor when not given.
        weight: w(t), or 1 when not given.
        seed: of the run; the draws are functions of (seed, uid, visit).
        patch: latent cells per token along one side, for a shift that grows with the area.
        stratified: spread the timesteps of an optimizer step evenly over the law: u_i = (pi(i) + xi) / N for a permutation pi and
            one xi in [0, 1) of the step, over all its N images, whatever process sees them. Each t keeps its law; their mean
            over a step, and so its loss, varies less. Batches that do not say their place draw each image on its own.
        background: how much a cell counts where the mask of its picture is 0; `Batch.masks` of None counts every cell alike.
        prior_weight: of the distance to what the base says under `Batch.prior` (differential output preservation): the class word
            alone keeps meaning what it meant. 0 asks nothing of the base.
        base: while it is entered, the learner is the base: its additions are switched off.

    Raises:
        ConfigError: a number is impossible, or there is a weight and no base.
    """

    def __init__(
        self,
        learner: nn.Module,
        *,
        density: Density | None = None,
        weight: Weight | None = None,
        seed: int = 0,
        patch: int = 2,
        stratified: bool = True,
        background: float = BACKGROUND,
        prior_weight: float = 0.0,
        base: Callable[[], AbstractContextManager[object]] | None = None,
    ) -> None:
        if not 0 <= background <= 1:
            raise ConfigError(
                f"background {background} is not a share", where="recipe.mask.background", do="0.1 is usual"
            )
        if prior_weight < 0 or (prior_weight and base is None):
            raise ConfigError(
                f"a prior of weight {prior_weight}{'' if prior_weight < 0 else ' without a base to compare with'}",
                where="recipe.prior",
                do="use a weight of 0 or above, and learn=lora: only additions can be switched off",
            )
        self.learner = learner
        self.density = density if density is not None else densities.sd3_paper()
        self.weight = weight if weight is not None else Weight()
        self.seed = seed
        self.patch = patch
        self.stratified = stratified
        self.background = background
        self.prior_weight, self.base = prior_weight, base

    def phases(self) -> list[Phase]:
        return [Phase("velocity", self.learner, self.loss)]

    def loss(self, batch: Batch) -> LossReport:
        """x_t = (1 - t) x0 + t noise,   loss = sum_i c_i w(t_i) (e_i + prior_weight p_i) / global_count

            e_i = sum_hw m_i mean_C (v^_i - (noise_i - x0_i))^2 / sum_hw m_i,   m = background + (1 - background) mask
            p_i = mean_Chw (v^(x_t, t, prior)_i - sg v_base(x_t, t, prior)_i)^2
            c_i = what the batch says that the image counts, or 1

        Path, target, error and weight are float32; an autocast around this reaches only the inside of the learner.
        """
        batch = self.prepare(batch)
        noise, t_B = batch.draws["noise"], batch.draws["t"]
        x0 = batch.latents.float()
        x_t = path.interpolate(x0, noise, t_B)
        v = self.learner(x_t, t_B, batch.conditioning)
        error_B = mean_square(v.float() - path.velocity(x0, noise), batch.masks, background=self.background)
        if not self.prior_weight:
            return LossReport((self._counts(t_B, batch) * error_B).sum() / batch.global_count, error_B.detach(), t_B)
        prior_B = self._prior(x_t, t_B, batch)
        loss = (self._counts(t_B, batch) * (error_B + self.prior_weight * prior_B)).sum() / batch.global_count
        return LossReport(loss, error_B.detach(), t_B, {"prior": prior_B.detach()})

    def _counts(self, t_B: Tensor, batch: Batch) -> Tensor:
        w_B = self.weight(t_B)
        return w_B if batch.weights is None else batch.weights * w_B

    def _prior(self, x_t: Tensor, t_B: Tensor, batch: Batch) -> Tensor:
        """`[B]` squared distance to the base under the captions of the class, over the whole picture: what is kept has no mask."""
        if batch.prior is None:
            raise ConfigError(
                "the prior needs captions of the class, and the batch has none",
                where="recipe.prior.kind",
                do="run 'animeflow cache' with data.cache.prior=true, or set recipe.prior.kind=none",
            )
        assert self.base is not None  # the constructor has seen to it
        with torch.no_grad(), self.base():
            kept = self.learner(x_t, t_B, batch.prior).float()
        return mean_square(self.learner(x_t, t_B, batch.prior).float() - kept)

    def prepare(self, batch: Batch) -> Batch:
        """The batch with its noise and t; the same object where they were drawn already."""
        if batch.draws:
            return batch
        noise, t_B = self.draw(batch)
        device = batch.latents.device
        return replace(batch, draws={"noise": noise.to(device), "t": t_B.to(device)})

    def draw(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Noise `[B, C, h, w]` and t `[B]` of every image, drawn on the CPU so that every device trains on the same numbers."""
        _, channels, h, w = batch.latents.shape
        images = list(zip(batch.uids, batch.visits, strict=True))
        noise = torch.stack([keyed.normal((channels, h, w), self.seed, uid, visit, "noise") for uid, visit in images])
        return noise, self.density.quantile(self._quantiles(batch), tokens=h * w // self.patch**2)

    def _quantiles(self, batch: Batch) -> Tensor:
        """u `[B]` in [0, 1), float64."""
        if self.stratified and batch.places:
            order = _strata(self.seed, batch.step, batch.global_count)[list(batch.places)]
            u = (order + keyed.uniform(self.seed, batch.step, "stratum")) / batch.global_count
            return torch.from_numpy(u)
        images = zip(batch.uids, batch.visits, strict=True)
        return torch.tensor([keyed.uniform(self.seed, uid, visit, "t") for uid, visit in images], dtype=torch.float64)


@lru_cache(maxsize=4)
def _strata(seed: int, step: int, count: int) -> np.ndarray:
    return keyed.permutation(count, seed, step, "strata").astype(np.float64)

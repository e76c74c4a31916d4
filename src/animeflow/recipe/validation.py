"""Validation loss without luck: the same noise at the same times for the same picture, for ever. Knows batches; knows no loop.

A loss at random times over 256 pictures moves by 8 % on its own; this one moves only when the model does. It tells divergence,
overfitting and which of two models is better at equal t; it does not rank how pictures look.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..core import seed as keyed
from ..core.batch import Batch
from ..flow import path
from ..flow.density import LogitNormal, Shifted
from ..flow.shift import FixedShift
from .masked import BACKGROUND, mean_square

QUANTILES = tuple((2 * k + 1) / 20 for k in range(10))  # .05, .15, ... .95
ANCHORS = (0.98, 1.0)  # where brightness is decided and where there is no picture at all
BRIGHTNESS = (0.9, *ANCHORS)
MIDDLE = (
    0.3,
    0.8,
)  # where what a picture is of is decided: the loss there turns first when a small set is learned by heart


def law_times(quantiles: Sequence[float] = QUANTILES) -> tuple[float, ...]:
    """t at these quantiles of the validation law, LN(0, 1) shift 3. It never follows the training law, so runs compare."""
    u = torch.tensor(quantiles, dtype=torch.float64)
    return tuple(Shifted(LogitNormal(0.0, 1.0), FixedShift(3.0)).quantile(u).tolist())


@torch.no_grad()
def fixed_noise_loss(
    learner: nn.Module,
    batches: Iterable[Batch],
    *,
    quantiles: Sequence[float] = QUANTILES,
    seed: int = 0,
    prefix: str = "val",
) -> dict[str, float]:
    """Velocity loss of `learner` over all `batches`; autocast and averaged weights are the caller's. A picture with a mask is
    judged by what it shows, and the rest of it counts a tenth whatever the recipe says, so that runs compare.

    Returns, with every image counting alike:
        `val/loss`: mean over the quantiles of the validation law.
        `val/loss_mid`: the same over those in [0.3, 0.8] alone, for the hint that a small set has been learned enough. Absent
            where no quantile lies there.
        `val/loss_t0.500`, ...: at every t, with t = 0.9, 0.98 and 1 besides.
        `val/loss_bucket24x40`, ...: `val/loss` of the images of one latent size h x w.
        `val/dc`: error of the mean of every channel of D = x_t - t v at t in {0.9, 0.98, 1}, over the variance of that mean
            between images. 1 is a model that knows nothing of brightness. Absent below two images.
        `val/ac`: the rest of the error of D at these t, over the variance inside the images.
    """
    main = law_times(quantiles)
    times = main + BRIGHTNESS
    loss_t: dict[int, float] = defaultdict(float)
    bucket_loss: dict[str, float] = defaultdict(float)
    bucket_images: dict[str, int] = defaultdict(int)
    light = _Brightness()
    training = learner.training
    learner.eval()
    try:
        for batch in batches:
            x0 = batch.latents.float()
            bucket = f"{x0.shape[2]}x{x0.shape[3]}"
            bucket_images[bucket] += len(batch)
            light.add_images(x0)
            for k, t in enumerate(times):
                error, denoised = _at(learner, batch, x0, t, k, seed)
                loss_t[k] += error
                if k < len(main):
                    bucket_loss[bucket] += error / len(main)
                else:
                    light.add_error(denoised - x0)
    finally:
        learner.train(training)
    images = sum(bucket_images.values())
    if not images:
        return {}
    values = {f"{prefix}/loss": sum(bucket_loss.values()) / images}
    middle = [k for k, t in enumerate(main) if MIDDLE[0] <= t <= MIDDLE[1]]
    if middle:
        values[f"{prefix}/loss_mid"] = sum(loss_t[k] for k in middle) / len(middle) / images
    values |= {f"{prefix}/loss_t{t:.3f}": loss_t[k] / images for k, t in enumerate(times)}
    values |= {f"{prefix}/loss_bucket{name}": bucket_loss[name] / n for name, n in bucket_images.items()}
    return values | {f"{prefix}/{name}": value for name, value in light.values().items()}


def _at(learner: nn.Module, batch: Batch, x0: Tensor, t: float, k: int, seed: int) -> tuple[float, Tensor]:
    """Summed error of the images of a batch at the k-th time, and what the learner takes the pictures for."""
    shape = tuple(x0.shape[1:])
    noise = torch.stack([keyed.normal(shape, seed, uid, k, "validation") for uid in batch.uids]).to(x0.device)
    t_B = torch.full((len(batch),), t, dtype=torch.float32, device=x0.device)
    x_t = path.interpolate(x0, noise, t_B)
    v = learner(x_t, t_B, batch.conditioning).float()
    error_B = mean_square(v - path.velocity(x0, noise), batch.masks, background=BACKGROUND)
    return float(error_B.double().sum()), path.denoised(x_t, v, t_B)


@dataclass
class _Brightness:
    """Sums, per channel, that split an error into the mean of a picture and the rest."""

    images: int = 0
    asked: int = 0
    mean: Tensor | float = 0.0
    mean_square: Tensor | float = 0.0
    inside: Tensor | float = 0.0
    dc: Tensor | float = 0.0
    ac: Tensor | float = field(default=0.0)

    def add_images(self, x0: Tensor) -> None:
        mean_BC = x0.double().mean((2, 3))
        self.images += len(x0)
        self.mean = self.mean + mean_BC.sum(0)
        self.mean_square = self.mean_square + mean_BC.square().sum(0)
        self.inside = self.inside + x0.double().var((2, 3), unbiased=False).sum(0)

    def add_error(self, error: Tensor) -> None:
        mean_BC = error.double().mean((2, 3))
        self.asked += len(error)
        self.dc = self.dc + mean_BC.square().sum(0)
        self.ac = self.ac + error.double().var((2, 3), unbiased=False).sum(0)

    def values(self) -> dict[str, float]:
        inside = torch.as_tensor(self.inside) / self.images
        values = {"ac": float((torch.as_tensor(self.ac) / self.asked / inside.clamp(min=1e-12)).mean())}
        if self.images > 1:
            mean = torch.as_tensor(self.mean) / self.images
            between = torch.as_tensor(self.mean_square) / self.images - mean.square()
            values["dc"] = float((torch.as_tensor(self.dc) / self.asked / between.clamp(min=1e-12)).mean())
        return values

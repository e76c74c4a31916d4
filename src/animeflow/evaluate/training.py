"""Training of the oracle: drawn pictures, a fixed number of steps, and a test on pictures it never saw. Knows drawn
pictures and the oracle's network; knows no trainer of models.

The same arguments on the same machine give the same weights: pictures, order and blemishes are keyed by the seed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..core import seed as keyed
from ..core.log import progress
from ..toonworld.words import ATTRIBUTES
from .adherence import score
from .drawn import Drawn, Size, classes, draw_many
from .oracle import SIDE, Oracle, OracleNet, resized

DEMO_SIZES: tuple[Size, ...] = ((96, 96), (112, 80), (80, 112))


@dataclass(frozen=True)
class Budget:
    """How long and how. The defaults are about two minutes of one processor: a minute on two cores.

    Args:
        pictures: drawn to learn from.
        test_pictures: drawn from another world seed, to test on.
        steps, batch: optimizer steps and pictures in each.
        lr: peak; it rises over 15 % of the steps and falls to zero.
    """

    pictures: int = 6000
    test_pictures: int = 500
    steps: int = 680
    batch: int = 40
    lr: float = 4e-3
    weight_decay: float = 0.05


def train_oracle(
    *,
    sizes: Sequence[Size] = DEMO_SIZES,
    seed: int = 0,
    budget: Budget | None = None,
    workers: int = 2,
) -> Oracle:
    """Draw, train, test. The oracle's `record` holds the budget, the accuracy per attribute and the seconds spent.

    Args:
        sizes: (height, width) of the pictures it will be asked about, or near them.
        workers: processes that draw; the result does not depend on it.
    """
    budget = budget or Budget()
    wall = time.perf_counter()
    drawn = list(draw_many(budget.pictures, seed=keyed.key(seed, "oracle"), sizes=sizes, workers=workers))
    drawn_s, own = time.perf_counter() - wall, time.process_time()
    pixels, labels = as_tensors(drawn)
    net = fit(pixels, labels, seed=seed, budget=budget)
    trained_s, trained_cpu_s = time.perf_counter() - wall - drawn_s, time.process_time() - own
    oracle = Oracle(net, ATTRIBUTES, {})
    # Another world seed, and the shares of a data set rather than the evened ones of training.
    unseen = draw_many(
        budget.test_pictures, seed=keyed.key(seed, "oracle test"), sizes=sizes, workers=workers, **DATA_SHARES
    )
    accuracy = examine(oracle, list(unseen))
    oracle.record = {
        "seed": seed,
        "sizes": [list(size) for size in sizes],
        "side": SIDE,
        "budget": asdict(budget),
        "parameters": sum(parameter.numel() for parameter in net.parameters()),
        "torch": torch.__version__,
        "accuracy": accuracy,
        "mean_accuracy": sum(accuracy.values()) / max(1, len(accuracy)),
        "seconds": {"drawing": drawn_s, "training": trained_s, "training_cpu": trained_cpu_s},
    }
    return oracle


DATA_SHARES: dict[str, Any] = {"named_share": 0.3, "count_weights": {1: 0.8, 2: 0.15, 3: 0.05}}


def as_tensors(drawn: Sequence[Drawn]) -> tuple[Tensor, Tensor]:
    """uint8 `[N, 3, SIDE, SIDE]` and class indices `[N, attributes]`, -1 where a picture has no such truth."""
    return resized([pixels for pixels, _ in drawn]), torch.tensor([classes(scene) for _, scene in drawn])


def fit(pixels: Tensor, labels: Tensor, *, seed: int, budget: Budget) -> OracleNet:
    """The trained network. AdamW on the sum of the attributes' cross entropies."""
    sizes = [len(values) for values in ATTRIBUTES.values()]
    draws = keyed.generator(seed, "oracle order")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(keyed.key(seed, "oracle weights"))
        net = OracleNet(sum(sizes)).train()
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = torch.optim.AdamW(net.parameters(), lr=budget.lr, weight_decay=budget.weight_decay)
        rise = max(1, round(0.15 * budget.steps))
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda k: min((k + 1) / rise, (budget.steps - k) / (budget.steps - rise))
        )
        order = torch.empty(0, dtype=torch.long)
        with progress("oracle", budget.steps) as advance:
            for _ in range(budget.steps):
                while len(order) < budget.batch:
                    order = torch.cat([order, torch.randperm(len(pixels), generator=draws)])
                rows, order = order[: budget.batch], order[budget.batch :]
                x = blemished(pixels[rows].float() / 255, draws).contiguous(memory_format=torch.channels_last)
                parts = net(x).split(sizes, dim=1)
                # Attributes that a picture has no truth for are left out, and the rest weighs by how often it is asked.
                loss = torch.stack([_loss(part, labels[rows, k]) for k, part in enumerate(parts)]).sum()
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                schedule.step()
                advance(1)
    return net.eval()


def _loss(logits: Tensor, label_B: Tensor) -> Tensor:
    return F.cross_entropy(logits, label_B, ignore_index=-1, reduction="sum") / (label_B >= 0).sum().clamp(min=1)


def blemished(x: Tensor, draws: torch.Generator) -> Tensor:
    """`[B, 3, SIDE, SIDE]` in [0, 1] with what generated pictures suffer from: moved and stretched a little, softer, colours
    that run and blotch like a codec's, noise, a slight cast. Every picture differs, and half of them stay sharp.
    """

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=draws)

    count = len(x)
    place = torch.zeros(count, 2, 3)
    place[:, 0, 0], place[:, 1, 1] = 0.96 + 0.08 * uniform(2, count)
    place[:, :, 2] = 0.10 * (uniform(count, 2) - 0.5)
    grid = F.affine_grid(place, list(x.shape), align_corners=False)
    x = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    soft = (uniform(count, 1, 1, 1) - 0.5).clamp(min=0) * 1.6
    x = x + soft * (F.avg_pool2d(x, 3, 1, 1, count_include_pad=False) - x)
    grey = x.mean(1, keepdim=True)
    washed = (uniform(count, 1, 1, 1) - 0.6).clamp(min=0) * 2.2
    x = x + washed * (F.avg_pool2d(x - grey, 5, 1, 2, count_include_pad=False) - (x - grey))
    blotches = F.interpolate(uniform(count, 3, SIDE // 8, SIDE // 8) - 0.5, (SIDE, SIDE), mode="bilinear")
    x = x + 0.10 * uniform(count, 1, 1, 1) * blotches
    x = x + 0.04 * uniform(count, 1, 1, 1) * torch.randn(x.shape, generator=draws)
    return x * (0.96 + 0.08 * uniform(count, 1, 1, 1)) + 0.04 * (uniform(count, 3, 1, 1) - 0.5)


def examine(oracle: Oracle, drawn: Sequence[Drawn]) -> dict[str, float]:
    """attribute -> share of the truths that the oracle reads right; attributes no picture has a truth for are absent."""
    return score(oracle.read([pixels for pixels, _ in drawn]), [scene for _, scene in drawn]).accuracy()

"""A run small enough for a test: 24 latents of two buckets, a convolution as learner, the real plan, recipe and trainer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from animeflow.core import seed as keyed
from animeflow.core.batch import Batch
from animeflow.core.conditioning import Conditioning
from animeflow.data.plan import Plan, accumulation
from animeflow.optim.adamw import AdamW
from animeflow.optim.schedule import Constant
from animeflow.recipe.velocity import Velocity
from animeflow.train.tracker import Tracker
from animeflow.train.trainer import Settings, Trainer

SHAPES = {"32x32": (4, 4, 4), "32x48": (4, 4, 6)}


class Learner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.conv = nn.Conv2d(4, 4, 3, padding=1)
            self.text = nn.Linear(3, 4)

    def blocks(self) -> list[nn.Module]:
        return [self.conv]

    def forward(self, x_BChw: Tensor, t_B: Tensor, cond: Conditioning) -> Tensor:
        return self.conv(x_BChw) + (self.text(cond["text"]) * t_B[:, None])[:, :, None, None]


class Steps:
    """Micro-batches of one process over pictures that are functions of their uid."""

    def __init__(
        self,
        *,
        batch: int,
        micro_batch: int,
        rank: int = 0,
        world: int = 1,
        poison: int | None = None,
        loud: dict[int, float] | None = None,
    ) -> None:
        """`poison`: the step, from 1, that has a NaN; `loud`: steps whose latents are multiplied."""
        self.loud = loud or {}
        uids = {name: [keyed.key("uid", name, i) for i in range(12)] for name in SHAPES}
        self.batch, self.micro_batch, self.rank, self.world, self.poison = batch, micro_batch, rank, world, poison
        self.plan = Plan(uids, seed=1, batch=batch)
        accumulation(batch, world=world, micro_batch=micro_batch)

    def __iter__(self) -> Iterator[list[Batch]]:
        while True:
            yield [
                self._batch(part)
                for chunk in self.plan.next_step()
                for part in chunk.part(self.rank, self.world, self.micro_batch)
            ]

    def _batch(self, part) -> Batch:
        shape = SHAPES[part.bucket]
        latents = torch.stack([keyed.normal(shape, uid, "latent") for uid in part.uids])
        if self.plan.step == self.poison:
            latents[0, 0, 0, 0] = float("nan")
        latents = latents * self.loud.get(self.plan.step, 1.0)
        text = torch.stack([keyed.normal((3,), uid, "text") for uid in part.uids])
        place = {"step": self.plan.step - 1, "places": part.places}
        return Batch(latents, Conditioning({"text": text}), part.uids, part.visits, self.batch, **place)

    def close(self) -> None:
        """Nothing is open."""

    def components(self, uids) -> None:
        pass

    def values(self) -> dict[str, float]:
        return {}

    def state_dict(self) -> dict:
        return self.plan.state_dict()

    def load_state_dict(self, state) -> None:
        self.plan.load_state_dict(state)


def trainer(
    folder: Path,
    *,
    images: int,
    hooks=(),
    identity=None,
    precision="fp32",
    settings=None,
    rates=None,
    frozen=(),
    on_base=False,
    base_dtype=torch.float32,
    **steps,
) -> Trainer:
    """`rates` of parts, and `frozen` parts, by the first component of their names."""
    rhythm = {"log_every_images": 16, "checkpoint_every_images": 24, "device": "cpu", "watchdog_seconds": 0}
    learner = Learner()
    for part in frozen:
        getattr(learner, part).requires_grad_(False).to(base_dtype)
    return Trainer(
        learner=learner,
        recipe=lambda learner: Velocity(learner, seed=3),
        steps=Steps(**{"batch": 8, "micro_batch": 8, **steps}),
        optim=AdamW(lr=1e-2, rates=rates or {}),
        schedule=Constant(warmup_images=16),
        settings=Settings(images=images, precision=precision, **rhythm | (settings or {})),
        folder=folder,
        tracker=Tracker(folder),
        on_base=on_base,
        hooks=hooks,
        identity=identity or {"seed": 3},
    )

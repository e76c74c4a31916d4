"""What is looked at while a run goes on: validation loss and pictures. Knows the trainer; knows no family and no data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.batch import Batch
from ..core.files import write_json
from ..model.protocol import Family
from ..recipe.validation import fixed_noise_loss
from ..sample import png
from ..sample.generate import generate
from .trainer import Trainer


class Validation:
    """Loss on held-out pictures at fixed noise and fixed t, so that two checkpoints differ only in their weights."""

    name = "validation"

    def __init__(self, batches: Sequence[Batch], *, every_images: int, seed: int) -> None:
        self.batches, self.every_images, self.seed = batches, every_images, seed

    def __call__(self, trainer: Trainer) -> Mapping[str, float]:
        if not trainer.parallel.asks_for_hooks:
            return {}
        batches = [batch.to(trainer.device) for batch in self.batches]
        return fixed_noise_loss(trainer.learner, batches, seed=self.seed)


class Samples:
    """Pictures of fixed prompts and seeds, written to `folder/<images seen>/<prompt>.png` with their recipes."""

    name = "samples"

    def __init__(
        self,
        family: Family,
        prompts: Sequence[str],
        *,
        folder: Path,
        every_images: int,
        height: int,
        width: int,
        seed: int = 0,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.family, self.prompts, self.folder, self.every_images = family, list(prompts), folder, every_images
        self.height, self.width, self.seed, self.options = height, width, seed, dict(options or {})

    def __call__(self, trainer: Trainer) -> Mapping[str, float]:
        if not trainer.parallel.asks_for_hooks or not self.prompts:
            return {}
        samples = generate(
            self.family,
            self.prompts,
            height=self.height,
            width=self.width,
            seeds=[self.seed + i for i in range(len(self.prompts))],
            pair=True,
            backbone=trainer.learner,
            weights={"images_seen": trainer.progress.images_seen, "kind": "ema"},  # the trainer puts them in for hooks
            **self.options,
        )
        if not trainer.parallel.is_main:
            return {}
        write_json(self.folder / "prompts.json", self.prompts)
        for i, sample in enumerate(samples):
            png.save(self.folder / f"{trainer.progress.images_seen}" / f"{i}.png", sample.pixels, sample.recipe)
        return {}

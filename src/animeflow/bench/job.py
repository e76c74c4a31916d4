"""What is measured: the parts of a run as its settings build them. Knows types; builds nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..image.bucket import Bucket
from ..model.protocol import Family
from ..optim.adamw import AdamW
from ..recipe.protocol import Recipe
from ..train.settings import Settings


@dataclass(frozen=True)
class Job:
    """A run's step on one device.

    Attributes:
        family: whose backbone learns.
        additions: puts low-rank additions on the backbone, which is frozen then; None lets all of it learn.
        prior: the recipe reads captions of the class, too.
        recipe: made of what is called as the learner.
        optim: of the run.
        settings: of the trainer: precision, attention, compilation, activations, 8 bits, clipping, averages.
        buckets: sizes that training sees.
        images: of one optimizer step on this device.
        micro_batch: of one forward pass.
        seed: of draws.
        name: of the run, for the report.
    """

    family: Family
    recipe: Callable[[Any], Recipe]
    optim: AdamW
    settings: Settings
    buckets: Sequence[Bucket]
    images: int
    micro_batch: int
    additions: Callable[[Any], object] | None = None
    prior: bool = False
    seed: int = 0
    name: str = ""

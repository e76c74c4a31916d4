"""What every recipe offers to the trainer. Knows batches and modules; knows no loop, no optimizer and no family."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from ..core.batch import Batch


@dataclass(frozen=True)
class LossReport:
    """The loss of one micro-batch.

    Attributes:
        loss: scalar to backpropagate: sum over this micro-batch / `batch.global_count`. So the losses of the parts of an
            optimizer step add up to the loss of the whole, however it was cut.
        loss_B: `[B]` error of every image before weighting, float32, detached; comparable at equal t over any recipe.
        t_B: `[B]` the t each image was asked at, float32, detached.
        parts: what else is in `loss`, by name, `[B]` before weighting, float32, detached: for log lines.
    """

    loss: Tensor
    loss_B: Tensor
    t_B: Tensor
    parts: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Phase:
    """One loss and the module whose weights it moves."""

    name: str
    learner: nn.Module
    loss: Callable[[Batch], LossReport]


@runtime_checkable
class Recipe(Protocol):
    """One or more phases, done in order in every optimizer step."""

    def prepare(self, batch: Batch) -> Batch:
        """Draw on the host what the losses will need of chance, keyed by what is in the batch. Runs ahead of the loop in another
        thread, so it touches no weight."""

    def phases(self) -> Sequence[Phase]: ...

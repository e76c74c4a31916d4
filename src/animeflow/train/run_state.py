"""What of a trainer is in a checkpoint, and back. Knows its parts; knows no disk.

Tensors go by groups: `learner`, `optimizer`, one per average, and the `ledger`. The rest is JSON. Every process has the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..core.errors import ConfigError
from ..optim.power_ema import group_name
from . import checkpoint, sharded
from .optimizer_state import blank_optimizer, flatten_optimizer, unflatten_optimizer
from .settings import Progress

if TYPE_CHECKING:
    from .trainer import Trainer


def tensors(trainer: Trainer) -> dict[str, Mapping[str, Tensor]]:
    """Groups of tensors as they are: shared memory, DTensors where they are sharded."""
    groups: dict[str, Mapping[str, Tensor]] = {
        "learner": _learner(trainer),
        "optimizer": flatten_optimizer(trainer.optimizer, trainer.names),
        **trainer.ema.state_dict(),
    }
    if trainer.books.keeps_ledger:
        groups["ledger"] = trainer.books.ledger.state_dict()
    return groups


def _learner(trainer: Trainer) -> Mapping[str, Tensor]:
    """All weights, or over a base only what learns."""
    if not trainer.on_base:
        return trainer.learner.state_dict()
    return {name: p.detach() for name, p in trainer.learner.named_parameters() if p.requires_grad}


def facts(trainer: Trainer) -> dict[str, Any]:
    """JSON beside them."""
    return {
        "progress": vars(trainer.progress),
        "telemetry": trainer.books.telemetry.state_dict(),
        "guard": trainer.guard.state_dict(),
        "spikes_in_a_row": trainer.incidents.in_a_row,
        "steps": trainer.place,
        "average": group_name(trainer.settings.ema.use),
        "identity": trainer.identity,
    }


def restore(trainer: Trainer, folder: Path) -> None:
    """Put a checkpoint into a trainer that was built alike, on any number of processes."""
    state = checkpoint.load_state(folder)
    known = sharded.describe(folder)
    blank_optimizer(trainer.optimizer, trainer.names, known["optimizer"])
    groups: dict[str, Mapping[str, Tensor]] = {
        "learner": _learner(trainer),
        "optimizer": flatten_optimizer(trainer.optimizer, trainer.names),
        **trainer.ema.state_dict(),
    }
    if trainer.books.keeps_ledger and "ledger" in known:
        groups["ledger"] = {name: torch.empty(shape, dtype=dtype) for name, (dtype, shape) in known["ledger"].items()}
    trainer.keeper.checkpoints.restore(folder, groups)
    # Its tensors are filled now; what are Python's numbers there were filled as copies.
    unflatten_optimizer(trainer.optimizer, trainer.names, groups["optimizer"])
    if groups.get("ledger"):
        trainer.books.ledger.load_state_dict(groups["ledger"])
    trainer.progress = Progress(**state["progress"])
    trainer.place = state["steps"]
    trainer.steps.load_state_dict(state["steps"])
    trainer.books.telemetry.load_state_dict(state["telemetry"])
    trainer.guard.load_state_dict(state["guard"])
    trainer.tracker.rewind(trainer.progress.images_seen)
    trainer.incidents.rewind(trainer.progress.images_seen)
    trainer.snapshots.rewind(trainer.progress.images_seen)
    trainer.books.begin(trainer.progress)
    trainer.incidents.in_a_row = list(state["spikes_in_a_row"])


def require_same_run(saved: Mapping[str, Any], ours: Mapping[str, Any], folder: Path) -> None:
    """Raises ConfigError when a checkpoint is of another run, naming every setting that differs."""
    # What is absent is off: a setting that came later, or a share of 0 that is no longer written, makes no other run.
    different = sorted(key for key in {*saved, *ours} if (saved.get(key) or None) != (ours.get(key) or None))
    if different:
        lines = "; ".join(f"{key}: {saved.get(key)!r} there, {ours.get(key)!r} here" for key in different[:8])
        raise ConfigError(
            f"this run folder holds a run with other settings: {lines}",
            where=str(folder),
            why="going on would be neither run",
            do="choose another name=..., or set the same values, or delete the folder",
        )

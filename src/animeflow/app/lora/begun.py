"""What an earlier run of the same name left, and whether this one may go on with it. Knows run folders; writes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core import files
from ...core.errors import ConfigError
from ..compose import flat
from ..wiring import Workspace

# Settings of the set: with other ones pictures are cut or held out anew, and the cache is another than the run has learned from.
OF_THE_SET = ("catalogue.val_share", "data.shard.", "data.bucket.", "data.codec.")
FREE = ("data.shard.workers",)
THERE = ("cache", "codec", "text tower")  # of an identity: what the set is, once it is made


@dataclass(frozen=True)
class Begun:
    """A run that has a checkpoint."""

    images: int
    total: int

    @property
    def finished(self) -> bool:
        return self.images >= self.total


def begun(config: Mapping[str, Any]) -> Begun | None:
    """How far the run of this name is; None where it has not begun."""
    newest = _newest(Workspace.of(dict(config)).run)
    return None if newest is None else Begun(int(newest.name), config["train"]["images"])


def require_same_settings(config: Mapping[str, Any]) -> None:
    """What the trainer asks before it goes on, asked before anything is written.

    Raises:
        ConfigError: the run that is there has other settings.
    """
    place = Workspace.of(dict(config))
    newest = _newest(place.run)
    if newest is None:
        return
    from ...train.checkpoint import load_state
    from ...train.run_state import require_same_run
    from ..learner import base_identity, start_identity
    from ..verbs.train import run_identity

    try:
        saved = load_state(newest)["identity"]
    except (OSError, ValueError, KeyError):
        return  # no whole checkpoint: the trainer passes it over
    ours = run_identity(config) | {key: saved[key] for key in THERE if key in saved}
    if "base" in saved:
        ours |= {"base": base_identity(dict(config)), "start": start_identity(dict(config))}
    try:
        require_same_run(saved, json.loads(json.dumps(ours)), place.run)
        before = place.run / "config.json"
        if before.is_file():
            there, here = _of_the_set(files.read_json(before)), _of_the_set(json.loads(json.dumps(config)))
            require_same_run({key: there[key] for key in there if key in here}, {key: here[key] for key in here if key in there},
                             place.run)  # fmt: skip
    except ConfigError as error:
        free = next_name(str(config["name"]), place.run)
        do = f"give this one a name of its own: name={free}; or say the same again, or delete {place.run} and {place.set}"
        raise ConfigError(error.what, where=error.where, why=error.why, do=do) from None


def next_name(name: str, run: Path) -> str:
    """The first name behind `name` that no run has."""
    stem, _, number = name.rpartition("_")
    stem, first = (stem, int(number) + 1) if stem and number.isdigit() else (name, 2)
    while (run.parent / f"{stem}_{first}").exists():
        first += 1
    return f"{stem}_{first}"


def _newest(run: Path) -> Path | None:
    from ...train.checkpoint import list_folders

    folders = list_folders(run / "checkpoints")
    return folders[-1] if folders else None


def _of_the_set(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in flat(dict(config)).items() if key.startswith(OF_THE_SET) and key not in FREE}

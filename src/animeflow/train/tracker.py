"""Numbers of a run: `metrics.jsonl` always, wandb when asked. Knows names and floats; knows no loop.

wandb being away, offline or badly configured never harms a run: the local file is complete without it.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from ..core.log import is_main_process

log = logging.getLogger(__name__)
Wandb = Literal["off", "offline", "online"]


class Tracker:
    """Appends one JSON line per call, flushed at once, so that a killed run keeps what it measured.

    Args:
        folder: the run's folder.
        config: shown by wandb.
        wandb: "off", "offline" or "online".
        project, name: for wandb.
    """

    def __init__(
        self,
        folder: Path,
        *,
        config: Mapping[str, Any] | None = None,
        wandb: Wandb = "off",
        project: str = "animeflow",
        name: str | None = None,
    ) -> None:
        self.path = folder / "metrics.jsonl"
        self._run = None
        if not is_main_process():
            return
        folder.mkdir(parents=True, exist_ok=True)
        if wandb != "off":
            self._run = _start_wandb(folder, config, wandb, project, name)

    def rewind(self, images: int) -> None:
        """Forget lines past `images`: they belong to work that was lost and will be done again."""
        if not is_main_process() or not self.path.exists():
            return
        kept = [
            line
            for line in self.path.read_text().splitlines(keepends=True)
            if line.endswith("\n") and json.loads(line)["images"] <= images
        ]
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text("".join(kept))
        os.replace(temporary, self.path)

    def log(self, images: int, step: int, values: Mapping[str, float]) -> None:
        if not is_main_process():
            return
        line = {"images": images, "step": step, **{key: _plain(value) for key, value in values.items()}}
        with open(self.path, "a") as file:
            file.write(json.dumps(line) + "\n")
        self._tell(lambda run: run.log(dict(line), step=images))

    def finish(self) -> None:
        self._tell(lambda run: run.finish())

    def _tell(self, action: Callable[[Any], Any]) -> None:
        if self._run is None:
            return
        try:
            action(self._run)
        except Exception as error:  # as in _start_wandb; it is not asked again
            log.warning("wandb stopped, metrics.jsonl is complete without it: %s", error)
            self._run = None


def _plain(value: float) -> float | None:
    number = float(value)
    return round(number, 8) if number == number and abs(number) != float("inf") else None  # JSON has no NaN


def _start_wandb(folder: Path, config: Mapping[str, Any] | None, mode: Wandb, project: str, name: str | None) -> Any:
    try:
        import wandb

        return wandb.init(
            dir=str(folder),
            config=dict(config or {}),
            mode=mode,  # type: ignore[arg-type]  # "off" never comes here
            project=project,
            name=name or folder.name,
            resume="allow",
            id=folder.name,
        )
    except Exception as error:  # any failure of a tracker is a warning: the run and metrics.jsonl go on
        log.warning("wandb did not start, metrics.jsonl is complete without it: %s", error)
        return None

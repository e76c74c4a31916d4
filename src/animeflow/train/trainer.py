"""The loop. Knows phases, images seen and hooks; knows no family, no data set and no config.

    for every optimizer step: for every phase: for every micro-batch: recipe.loss -> backward; then clip, step, average

The formula of the loss is in the recipe, one hop away. Every draw is keyed by image and visit, so nothing here holds a
random state: a checkpoint is weights, optimizer, average and the place in the order of data.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ..core.batch import Batch
from ..core.errors import AnimeflowError, ConfigError
from ..core.log import progress
from ..model.protocol import Backbone
from ..optim import groups
from ..optim.adamw import AdamW
from ..optim.ema import EMA
from ..optim.schedule import Schedule
from ..recipe.protocol import LossReport, Recipe
from . import checkpoint
from .settings import Progress, Settings
from .telemetry import Telemetry
from .tracker import Tracker

log = logging.getLogger(__name__)


class Steps(Protocol):
    """The order of data: optimizer steps as lists of micro-batches of this process, and a place in it."""

    batch: int  # images of one optimizer step over all processes

    def __iter__(self) -> Iterator[list[Batch]]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class Hook(Protocol):
    """Something done every so many images: validation, samples, adherence."""

    name: str
    every_images: int

    def __call__(self, trainer: Trainer) -> Mapping[str, float]:
        """Runs on every process with the averaged weights applied; what it returns is logged."""


class Trainer:
    """Trains `learner` with `recipe(learner)` over `steps` in `folder`. Raises AnimeflowError where the run cannot go on."""

    def __init__(
        self,
        *,
        learner: nn.Module,
        recipe: Callable[[nn.Module], Recipe],
        steps: Steps,
        optim: AdamW,
        schedule: Schedule,
        settings: Settings,
        folder: Path,
        tracker: Tracker,
        hooks: Iterable[Hook] = (),
        identity: Mapping[str, Any] | None = None,
    ) -> None:
        settings.require_device(cuda=torch.cuda.is_available())
        self.settings, self.schedule, self.steps, self.folder, self.tracker = settings, schedule, steps, folder, tracker
        self.accelerator = Accelerator(
            mixed_precision="bf16" if settings.precision == "bf16" else "no",
            cpu=settings.device == "cpu" or not torch.cuda.is_available(),
        )
        self.device = self.accelerator.device
        self.learner = learner.to(device=self.device, dtype=torch.float32)
        if settings.activation_memory == "full":
            cast(Backbone, self.learner).gradient_checkpointing()
        self.names = {parameter: name for name, parameter in self.learner.named_parameters()}
        self.optimizer = optim.build(self.learner)
        self.peak_rates = {"optim/lr": optim.lr} | {f"optim/lr/{part}": rate for part, rate in optim.rates.items()}
        # accelerate wraps the learner (DDP, autocast), never the recipe: the recipe calls what was wrapped.
        self.wrapped = self.accelerator.prepare_model(self.learner)
        self.recipe = recipe(self.wrapped)
        self.ema = EMA(self.learner, half_life_images=max(1.0, 0.1 * settings.images))
        self.hooks = list(hooks)
        self.progress = Progress()
        self.telemetry = Telemetry(self.device)
        self.identity = dict(identity or {})

    # -- the loop ------------------------------------------------------------------------------------------------------

    def run(self) -> Progress:
        """Train to the end, from wherever `resume` put us."""
        telemetry = self.telemetry
        telemetry.start()
        before, started = self.progress.seconds, time.perf_counter()
        last_log = self.progress.images_seen
        for line in groups.tell(self.learner, self.optimizer.param_groups):
            log.info("%s", line)
        self.wrapped.train()
        if self.progress.images_seen == 0:
            with telemetry.paused():
                self._run_hooks()
        with progress("training", self.settings.images) as advance, contextlib.closing(_Timed(self.steps)) as timed:
            advance(self.progress.images_seen)
            while self.progress.images_seen < self.settings.images:
                micro_batches, wait_s = next(timed)
                reports, grad_norm, rates = self.step(micro_batches)
                self.progress.seconds = before + time.perf_counter() - started
                count = micro_batches[0].global_count
                advance(count)
                for report in reports:
                    telemetry.add(report.loss_B, report.t_B, global_images=0, wait_s=0.0)
                telemetry.add(reports[0].loss_B[:0], reports[0].t_B[:0], global_images=count, wait_s=wait_s)
                if self._crossed(last_log, self.settings.log_every_images) or self.finished:
                    last_log = self.progress.images_seen
                    values = telemetry.flush(self._sum)
                    extra = {"train/grad_norm": float(grad_norm), **rates, "time/seconds": self.progress.seconds}
                    self.tracker.log(self.progress.images_seen, self.progress.step, values | extra)
                with telemetry.paused():
                    self._run_hooks()
                    if self.finished or self._due("checkpoint", self.settings.checkpoint_every_images):
                        self.save()
        return self.progress

    def _sum(self, values: Tensor) -> Tensor:
        return self.accelerator.reduce(values, reduction="sum")

    @property
    def finished(self) -> bool:
        return self.progress.images_seen >= self.settings.images

    def step(self, micro_batches: list[Batch]) -> tuple[list[LossReport], Tensor, dict[str, float]]:
        """One optimizer step: every phase of the recipe over every micro-batch. Returns reports, gradient norm and rates."""
        reports: list[LossReport] = []
        for phase in self.recipe.phases():
            for i, batch in enumerate(micro_batches):
                last = i == len(micro_batches) - 1
                # Gradients travel between processes once per step, with the last micro-batch.
                quiet = contextlib.nullcontext() if last else self.accelerator.no_sync(phase.learner)
                with quiet:
                    report = phase.loss(batch.to(self.device))
                    # The loss is a sum over this part / count of the whole step; DDP averages over processes, so undo that.
                    self.accelerator.backward(report.loss * self.accelerator.num_processes)
                reports.append(report)
        norm = self._clip()
        factor = self.schedule.factor(self.progress.images_seen, self.settings.images)
        if bool(torch.isfinite(norm)):
            for group in self.optimizer.param_groups:
                group["lr"] = group["peak_lr"] * factor
            self.optimizer.step()
        else:
            self._skip(micro_batches)
        self.optimizer.zero_grad(set_to_none=True)
        self.progress.images_seen += micro_batches[0].global_count
        self.progress.step += 1
        self.ema.update(self.progress.images_seen, micro_batches[0].global_count)
        return reports, norm, {name: peak * factor for name, peak in self.peak_rates.items()}

    def _clip(self) -> Tensor:
        return self.accelerator.clip_grad_norm_(self.learner.parameters(), self.settings.clip or float("inf"))

    def _skip(self, micro_batches: list[Batch]) -> None:
        """A step with a non-finite gradient is left out and its pictures named; many of them end the run."""
        self.progress.skipped_steps += 1
        uids = [f"{uid:016x}" for batch in micro_batches for uid in batch.uids]
        log.warning("step %d is skipped, its gradient is not finite; pictures: %s", self.progress.step, ", ".join(uids))
        if self.progress.skipped_steps > max(10, self.progress.step // 100):
            raise AnimeflowError(
                f"{self.progress.skipped_steps} of {self.progress.step + 1} steps had no finite gradient",
                where=str(self.folder),
                do="lower optim.lr, check the pictures named in the log, then resume",
            )

    # -- rhythm --------------------------------------------------------------------------------------------------------

    def _crossed(self, last: int, every: int) -> bool:
        return every > 0 and self.progress.images_seen // every > last // every

    def _due(self, name: str, every: int) -> bool:
        """Once per `every` images, also over a resume: when it was last done is a part of the progress."""
        if not self._crossed(self.progress.hooks_done.get(name, 0), every):
            return False
        self.progress.hooks_done[name] = self.progress.images_seen
        return True

    def _run_hooks(self) -> None:
        first = self.progress.images_seen == 0
        for hook in self.hooks:
            due = self._due(hook.name, hook.every_images)
            if not (due or first or self.finished):
                continue
            self.wrapped.eval()
            with self.ema.applied(), torch.no_grad():
                values = hook(self)
            self.wrapped.train()
            if values:
                self.tracker.log(self.progress.images_seen, self.progress.step, values)

    # -- state ---------------------------------------------------------------------------------------------------------

    def save(self) -> Path | None:
        """Write a checkpoint from the main process; the others wait until it is whole."""
        folder, measured = None, self.telemetry.state_dict(self._sum)
        if self.accelerator.is_main_process:
            tensors = {
                "learner": self.learner.state_dict(),
                "optimizer": checkpoint.flatten_optimizer(self.optimizer, self.names),
                "ema": self.ema.state_dict(),
            }
            state = {
                "progress": vars(self.progress),
                "telemetry": measured,
                "steps": self.steps.state_dict(),
                "identity": self.identity,
            }
            folder = checkpoint.save(
                self.folder / "checkpoints",
                self.progress.images_seen,
                tensors,
                state,
                keep=self.settings.keep_checkpoints,
            )
        self.accelerator.wait_for_everyone()
        return folder

    def close(self) -> None:
        """Wait for the other processes and leave their group. Nothing can be trained after."""
        self.accelerator.wait_for_everyone()
        self.accelerator.end_training()

    def start_anew(self) -> None:
        """Begin at no images in a folder without checkpoints. Raises ConfigError when there are some: two runs in one folder would
        mix their lines and throw away each other's checkpoints."""
        folders = checkpoint.list_folders(self.folder / "checkpoints")
        if folders:
            raise ConfigError(
                f"this run folder holds checkpoints up to {int(folders[-1].name):,} images",
                where=str(self.folder),
                why="a run that starts anew in it would mix with the one that is there",
                do="choose another name=..., or set train.resume=true to go on, or delete the folder",
            )
        self.tracker.rewind(-1)

    def resume(self) -> bool:
        """Continue from the newest checkpoint that verifies; False when there is none. Raises ConfigError when it is of another
        run, naming every setting that differs."""
        folder = checkpoint.newest(self.folder / "checkpoints")
        if folder is None:
            self.tracker.rewind(-1)
            return False
        tensors, state = checkpoint.load(folder)
        _same_run(state["identity"], self.identity, folder)
        self.learner.load_state_dict(tensors["learner"])
        checkpoint.unflatten_optimizer(self.optimizer, self.names, tensors["optimizer"])
        self.ema.load_state_dict(tensors["ema"])
        self.progress = Progress(**state["progress"])
        self.steps.load_state_dict(state["steps"])
        if "telemetry" in state:  # format 1 began without it
            self.telemetry.load_state_dict(state["telemetry"], holder=self.accelerator.is_main_process)
        self.tracker.rewind(self.progress.images_seen)
        log.info("resumed from %s", folder)
        return True


class _Timed:
    """Iterates steps and measures how long each was waited for."""

    def __init__(self, steps: Steps) -> None:
        self._iterator = iter(steps)

    def __next__(self) -> tuple[list[Batch], float]:
        start = time.perf_counter()
        return next(self._iterator), time.perf_counter() - start

    def close(self) -> None:
        close = getattr(self._iterator, "close", None)
        if close:
            close()


def _same_run(saved: Mapping[str, Any], ours: Mapping[str, Any], folder: Path) -> None:
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

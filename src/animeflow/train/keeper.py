"""Saving a run, going on with it, and going back. Knows checkpoints and what a trainer consists of; knows no loss."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import ConfigError
from . import checkpoint, run_state
from .checkpoint import Checkpoints, SaveFailed
from .incidents import ADVICE, Diverged

if TYPE_CHECKING:
    from .trainer import Trainer

log = logging.getLogger(__name__)


class Keeper:
    """The checkpoints of one trainer. Every method is called on all processes alike."""

    def __init__(self, trainer: Trainer) -> None:
        settings = trainer.settings
        self._trainer, self._root = trainer, trainer.folder / "checkpoints"
        self.checkpoints = Checkpoints(
            self._root,
            keep_last=settings.keep_checkpoints,
            keep_every_images=settings.keep_every_images,
            asynchronous=settings.checkpoint_async,
            on_saved=self._after,
        )

    def save(self, *, last: bool = False) -> None:
        """Begin a checkpoint; it is whole when `finish` returns. One that fails is told and tried again at the next occasion, but
        the `last` one of a process has to succeed."""
        trainer = self._trainer
        self.finish()  # the one before, so that its failure is not taken for this one's
        try:
            self.checkpoints.save(trainer.progress.images_seen, run_state.tensors(trainer), run_state.facts(trainer))
        except SaveFailed as error:
            self._tell(error, last=last)
        if last:
            self.finish(last=True)

    def finish(self, *, last: bool = False) -> None:
        """Wait until what was begun is on disk."""
        try:
            self.checkpoints.wait()
        except SaveFailed as error:
            self._tell(error, last=last)

    def _tell(self, error: SaveFailed, *, last: bool) -> None:
        if last:
            raise error
        log.error("a checkpoint is not there, training goes on: %s", error)
        self._trainer.panel.event("a checkpoint failed")

    def _after(self, folder: Path) -> None:
        """On the main process, beside training, when a checkpoint is whole: the ledger of what it has seen."""
        self._trainer.panel.event(f"checkpoint at {int(folder.name):,} images")
        self._write_ledger(folder)

    def _write_ledger(self, folder: Path) -> None:
        if self._trainer.books.keeps_ledger:
            told = checkpoint.load(folder, ["ledger"])[0]["ledger"]
            self._trainer.books.write_ledger(told, self._trainer.steps.components)

    def resume(self) -> bool:
        """Continue from the newest checkpoint that verifies; False when there is none. Raises ConfigError when it is of another
        run, naming every setting that differs."""
        self._trainer.claim.take()
        trainer, folder = self._trainer, self.checkpoints.resume_from()
        if folder is None:
            self._forget()
            return False
        run_state.require_same_run(checkpoint.load_state(folder)["identity"], trainer.identity, folder)
        run_state.restore(trainer, folder)
        if trainer.parallel.is_main:
            self._write_ledger(folder)  # a process that died between the checkpoint and the ledger left an older one
        log.info("resumed from %s", folder)
        return True

    def start_anew(self) -> None:
        """Begin at no images in a folder without checkpoints. Raises ConfigError when there are some: two runs in one folder would
        mix their lines and throw away each other's checkpoints."""
        self._trainer.claim.take()
        folders = checkpoint.list_folders(self._root)
        if folders:
            raise ConfigError(
                f"this run folder holds checkpoints up to {int(folders[-1].name):,} images",
                where=str(self._trainer.folder),
                why="a run that starts anew in it would mix with the one that is there",
                do="choose another name=..., or set train.resume=true to go on, or delete the folder",
            )
        self._forget()

    def _forget(self) -> None:
        """Remove what a run without a checkpoint has left."""
        for part in (self._trainer.tracker, self._trainer.incidents, self._trainer.snapshots):
            part.rewind(-1)

    def roll_back(self) -> bool:
        """Go back to the newest checkpoint before the spikes, and pass over the steps since. False where there is none; raises
        Diverged where a run has done it too often."""
        trainer = self._trainer
        incidents, progress = trainer.incidents, trainer.progress
        first, last = incidents.in_a_row[0], trainer.place["step"] - 1
        if progress.rollbacks >= trainer.settings.guard.rollbacks:
            raise Diverged(
                f"the run has gone back {progress.rollbacks} times already",
                where=str(incidents.path),
                why=f"train.guard.rollbacks={trainer.settings.guard.rollbacks}",
                do=ADVICE,
            )
        self.finish()
        folder = self.checkpoints.resume_from(before=first * trainer.steps.batch + 1)
        if folder is None:
            log.error("three spikes in a row and no checkpoint before them to go back to: the run goes on")
            incidents.in_a_row = []
            return False
        over, rollbacks = {*progress.passed_over, *range(first, last + 1)}, progress.rollbacks + 1
        run_state.restore(trainer, folder)
        trainer.progress.passed_over, trainer.progress.rollbacks = sorted(over), rollbacks
        log.warning("back to %s; steps %d to %d are passed over", folder.name, first, last)
        trainer.panel.event(f"back to {folder.name}")
        return True

    def close(self) -> None:
        self.checkpoints.close()

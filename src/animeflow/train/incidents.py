"""What follows when a step goes wrong: its pictures are named, it is counted, and too many of them end the run. Knows policies;
knows no tensor of the model."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..core import files
from ..core.errors import AnimeflowError
from .guard import GOOD, NONFINITE
from .parallel import Parallel
from .settings import Guard, Progress

log = logging.getLogger(__name__)

ROW = 3  # spikes in a row after which a run goes back: single ones come from heavy tails, three hardly
FEW = 10  # skipped steps that are allowed whatever their share


ADVICE = (
    "look at the pictures named there. A lower optim.lr is another run: export this one, or an older checkpoint of it, and start "
    "a new name= from that with model.weights=...; or resume with train.guard.spike=rollback, or more train.guard.max_share"
)


class Diverged(AnimeflowError):
    """The run cannot go on by itself."""


@dataclass(frozen=True)
class Note:
    """What is remembered of a step until its verdict is read.

    Attributes:
        step: of the order of data.
        images_seen: after it.
        uids, loss_B: of this process's pictures.
    """

    step: int
    images_seen: int
    uids: tuple[int, ...]
    loss_B: Tensor


class Incidents:
    """Reads verdicts, in order, alike on all processes. Its file is `incidents.jsonl` in the run's folder."""

    def __init__(self, folder: Path, settings: Guard, parallel: Parallel) -> None:
        self.path = folder / "incidents.jsonl"
        self.settings, self._parallel = settings, parallel
        self.in_a_row: list[int] = []  # steps that went wrong since the last good one
        self._left_out = 0  # of them

    def handle(self, note: Note, report: Tensor, progress: Progress) -> bool:
        """Whether the run has to go back to an earlier checkpoint. Raises Diverged where it must not go on."""
        kind, z_loss, z_norm, loss, norm = report.tolist()
        if kind == GOOD:
            self.in_a_row, self._left_out = [], 0
            return False
        bad = kind == NONFINITE
        policy = self.settings.nonfinite if bad else self.settings.spike
        skipped = bad or policy in ("skip", "rollback")
        self._tell(note, bad=bad, skipped=skipped, z=max(z_loss, z_norm), loss=loss, norm=norm)
        if bad and policy == "stop":
            raise Diverged(
                f"step {note.step} has a loss or gradient that is no number",
                where=str(self.path),
                why="train.guard.nonfinite=stop",
                do="look at the pictures named there; train.guard.nonfinite=skip leaves such steps out and goes on",
            )
        self.in_a_row.append(note.step)
        back = self.settings.spike == "rollback" and len(self.in_a_row) >= ROW
        if skipped:
            progress.skipped_steps += 1
            self._left_out += 1
            if not back:
                self._require_few(progress)
        return back

    @property
    def troubled(self) -> bool:
        """Step after step is left out: the weights may be ruined already."""
        return self._left_out >= ROW

    def _tell(self, note: Note, *, bad: bool, skipped: bool, z: float, loss: float, norm: float) -> None:
        values = note.loss_B.double().cpu()
        finite = torch.isfinite(values)
        mine = [
            {"uid": f"{uid:016x}", "loss": float(value) if ok else None}
            for uid, value, ok in zip(note.uids, values, finite, strict=True)
        ]
        pictures = [picture for part in self._parallel.gather_objects(mine) for picture in part]
        # Without a loss first, then by loss: the culprit of a bad step is most often the first.
        pictures.sort(key=lambda picture: (picture["loss"] is not None, -(picture["loss"] or 0.0)))
        if not self._parallel.is_main:
            return
        culprits = [picture for picture in pictures if picture["loss"] is None]
        if culprits:
            what = f"has no finite loss for {len(culprits)} of {len(pictures)} pictures"
        elif bad:
            what = "has a gradient that is no number"
        else:
            what = f"is a spike, {z:.0f} deviations above what was expected"
        log.warning(
            "step %d %s and is %s; pictures: %s", note.step, what, "skipped" if skipped else "taken all the same",
            ", ".join(picture["uid"] for picture in culprits or pictures),
        )  # fmt: skip
        line = {
            "step": note.step, "images": note.images_seen, "kind": "not finite" if bad else "spike", "skipped": skipped,
            "z": None if bad else _plain(z), "loss": _plain(loss), "grad_norm": _plain(norm), "pictures": pictures,
        }  # fmt: skip
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "a") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            log.warning("%s could not be written: %s", self.path, error)

    def _require_few(self, progress: Progress) -> None:
        if progress.skipped_steps > max(FEW, self.settings.max_share * progress.step):
            raise Diverged(
                f"{progress.skipped_steps} of {progress.step} steps were skipped",
                where=str(self.path),
                why=f"more than {FEW} and more than train.guard.max_share={self.settings.max_share:g} of all",
                do=ADVICE,
            )

    def rewind(self, images_seen: int) -> None:
        """Drop the lines past a resumed checkpoint: those steps are done again."""
        self.in_a_row, self._left_out = [], 0
        if not self._parallel.is_main or not self.path.is_file():
            return
        lines = self.path.read_text().splitlines()
        kept = [line for line in lines if -1 < _images(line) <= images_seen]
        if len(kept) < len(lines):
            files.write_text(self.path, "".join(line + "\n" for line in kept))


def _images(line: str) -> int:
    """Of one line; -1 where it is only the beginning of one, as a power cut leaves it."""
    try:
        return int(json.loads(line)["images"])
    except (ValueError, KeyError, TypeError):
        return -1


def _plain(value: float) -> float | None:
    return value if value == value and abs(value) != float("inf") else None  # JSON has no NaN

"""The numbers of a run: added step by step on the device, written as lines now and then. Knows numbers, files and the panel; knows
no learner."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from torch import Tensor

from ..core.batch import Batch
from ..data.ledger import Ledger, Named
from ..recipe.protocol import LossReport
from .feed import Fed
from .panel import Panel
from .parallel import Parallel
from .settings import Progress
from .stopwatch import Stopwatch
from .stragglers import Stragglers
from .telemetry import Telemetry
from .totals import Totals
from .tracker import Tracker
from .visits import Visits

log = logging.getLogger(__name__)


class Books:
    """Telemetry, the ledger of pictures, `metrics.jsonl` and the panel.

    Args:
        flops: of one image of a batch, forward and backward; None tells no arithmetic.
        peak_flops: of one device, if known.
        with_ledger: whether pictures are kept count of.
    """

    def __init__(
        self,
        folder: Path,
        *,
        parallel: Parallel,
        tracker: Tracker,
        panel: Panel,
        flops: Callable[[Batch], float] | None,
        peak_flops: float | None,
        with_ledger: bool,
    ) -> None:
        self.path, self.tracker, self.panel, self._parallel, self._flops = (
            folder / "ledger.parquet", tracker, panel, parallel, flops,
        )  # fmt: skip
        peak = peak_flops * parallel.world if peak_flops else None
        self.telemetry = Telemetry(parallel.device, peak_flops=peak)
        self.ledger = Ledger()
        self._visits = Visits(parallel, self.ledger) if with_ledger else None
        self._stragglers, self._steps = Stragglers(), 0
        self._work = Stopwatch(parallel.device, on=parallel.world > 1 and not parallel.sharded)

    def begin(self, progress: Progress) -> None:
        """The clock starts, from wherever the run is: at its beginning, after a resume, or after it has gone back."""
        if self._visits:
            self._visits.clear()
        self._steps = 0
        self._work.seconds()
        self.telemetry.start()
        self.panel.begin(progress.images_seen, progress.seconds)

    def own_work(self) -> AbstractContextManager[None]:
        """Around what a process computes without the others."""
        return self._work.running()

    @property
    def keeps_ledger(self) -> bool:
        return self._visits is not None

    def add(self, fed: Fed, reports: Sequence[LossReport], totals: Totals) -> None:
        """One optimizer step. Waits for nothing."""
        flops = sum(self._flops(batch) * len(batch) for batch in fed.batches) if self._flops else 0.0
        parts = {name: self._parallel.sum(sums) for name, sums in _parts(reports).items()}
        named = _components(fed.batches, reports)
        self.telemetry.add(
            totals,
            images=fed.images,
            wait_s=fed.wait_s,
            flops=flops * self._parallel.world,
            parts=parts,
            components=(named[0], self._parallel.sum(named[1])) if named else None,
        )
        if self._visits:
            self._visits.add(fed.batches, reports)
        self._steps += 1

    def line(self, progress: Progress, norm: Tensor, more: Mapping[str, float]) -> None:
        """Write a line of what came together since the last one. Collective."""
        values = self.telemetry.flush()
        self.flush()
        values |= {"train/grad_norm": float(norm), **more, "time/seconds": progress.seconds}
        values["train/skipped_steps"] = float(progress.skipped_steps)
        self.show(progress, values)
        self._name_stragglers()

    def show(self, progress: Progress, values: Mapping[str, float]) -> None:
        """A line and the panel."""
        if values:
            self.tracker.log(progress.images_seen, progress.step, values)
            self.panel.show(values)

    def flush(self) -> None:
        """Bring the ledger up to the last step. Collective."""
        if self._visits:
            self._visits.flush()

    def write_ledger(self, state: Mapping[str, Tensor], named: Named) -> None:
        """`ledger.parquet` out of what a checkpoint holds; a disk that is full does not end a run."""
        ledger = Ledger()
        ledger.load_state_dict(state)
        try:
            ledger.write(self.path, named)
        except OSError as error:
            log.warning("the ledger of pictures could not be written: %s", error)

    def _name_stragglers(self) -> None:
        steps, self._steps = max(self._steps, 1), 0
        if self._parallel.world == 1:
            return
        window = (self._work.seconds(), self.telemetry.window_wait)
        mine = torch.tensor(window, dtype=torch.float64, device=self._parallel.device) / steps
        seconds, waits = torch.stack(self._parallel.gather(mine)).T.tolist()
        for sentence in self._stragglers.update(seconds, waits):
            log.warning("%s", sentence)


def _parts(reports: Sequence[LossReport]) -> dict[str, Tensor]:
    """What else is in the losses of this process, by name: sum and number of its images, float64 `[2]`. What is no number is left
    out, as it is of the loss."""
    found: dict[str, list[Tensor]] = {}
    for report in reports:
        for name, part_B in report.parts.items():
            found.setdefault(name, []).append(part_B)
    sums = {}
    for name, parts in sorted(found.items()):
        part_B = torch.cat(parts).double()
        finite_B = torch.isfinite(part_B)
        sums[name] = torch.stack([torch.where(finite_B, part_B, 0.0).sum(), finite_B.double().sum()])
    return sums


def _components(batches: Sequence[Batch], reports: Sequence[LossReport]) -> tuple[tuple[str, ...], Tensor] | None:
    """The components of the mixture, and of the first phase's losses in each the sum and number, float64 `[components, 2]`, on the
    device. None without a mixture, on all processes alike."""
    numbers = [batch.components for batch in batches if batch.components is not None]
    if not numbers:
        return None
    names = batches[0].names
    loss_B = torch.cat([report.loss_B for report in reports[: len(batches)]]).double()
    finite_B = torch.isfinite(loss_B)
    pairs_B2 = torch.stack([torch.where(finite_B, loss_B, 0.0), finite_B.double()], dim=1)
    return names, pairs_B2.new_zeros(len(names), 2).index_add_(0, torch.cat(numbers), pairs_B2)

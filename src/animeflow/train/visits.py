"""From the losses of all processes to the ledger, without waiting for them in a step. Knows processes; knows no file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ..core.batch import Batch
from ..data.ledger import Ledger
from ..recipe.protocol import LossReport
from .parallel import Parallel


class Visits:
    """Keeps losses on the device until `flush`; then the ledger gets them in the order of data, step by step, so that neither the
    number of processes nor the rhythm of flushes changes a bit of it. Every process has the same ledger: a part of a checkpoint
    that only one of them had could not be written and read by any number of them."""

    def __init__(self, parallel: Parallel, ledger: Ledger) -> None:
        self.ledger, self._parallel = ledger, parallel
        self._steps: list[tuple[list[int], list[int], torch.Tensor]] = []

    def add(self, batches: Sequence[Batch], reports: Sequence[LossReport]) -> None:
        """One optimizer step of this process: of a recipe of several phases the first one counts."""
        uids = [uid for batch in batches for uid in batch.uids]
        places = [place for batch in batches for place in batch.places]
        reports = reports[: len(batches)]
        loss = torch.cat([report.loss_B for report in reports]).double()
        self._steps.append((uids, places, torch.stack([loss, torch.cat([r.t_B for r in reports]).double()])))

    def clear(self) -> None:
        """Forget what was not flushed: the run has gone back to before it."""
        self._steps = []

    def flush(self) -> None:
        """Collective. Waits for the device."""
        if not self._steps:
            return
        device = self._steps[0][2].device
        # Every process has equally many images of every step: [steps, images].
        names = torch.tensor([[uids, places or range(len(uids))] for uids, places, _ in self._steps], device=device)
        numbers = torch.stack([values for _, _, values in self._steps])
        self._steps = []
        all_names = torch.cat(self._parallel.gather(names), dim=2).cpu().numpy()
        all_numbers = torch.cat(self._parallel.gather(numbers), dim=2).cpu().numpy()
        self.ledger.know(all_names[:, 0].ravel())
        for (uids, places), (loss, t) in zip(all_names, all_numbers, strict=True):
            order = np.argsort(places, kind="stable")
            self.ledger.add(uids[order], loss[order], t[order])

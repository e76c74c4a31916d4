"""How often pictures come, epoch by epoch, where that need not be a whole number. Knows uids and integers.

Before epoch k a picture of exposure e came floor(k e + u) times. So it comes floor(e) or ceil(e) times in each, over any number of
epochs within one of what is due, and the whole state is k. All of it is in whole 2^-32ths: sums are exact on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..core import seed as keyed
from ..core.mixed import mixed

SHIFT = 32
ONCE = 1 << SHIFT
GRAIN = 20
"""Exposures are rounded to 2^-20ths: what another machine computes in its last bits is the same order of data."""
_GOLDEN = np.uint64(0x9E3779B9)  # 2^32 / golden ratio, odd


@dataclass(frozen=True)
class Turns:
    """How often each of some pictures comes.

    Attributes:
        uids: ascending.
        steps: exposure in an epoch, in 2^-32ths.
        phases: u of each, in 2^-32ths, below `ONCE`.
    """

    uids: np.ndarray
    steps: np.ndarray
    phases: np.ndarray

    @staticmethod
    def of(uids: np.ndarray, exposure: np.ndarray, kinds: np.ndarray | None = None, *, seed: int) -> Turns:
        """From real exposures. The phases of pictures of one kind and one exposure are spread evenly over [0, 1), in an order drawn
        by the seed: then it is not chance how many of them come in an epoch, and a kind gets its share in every one."""
        order = np.argsort(uids, kind="stable")
        uids, steps = uids[order], np.rint(exposure[order] * (1 << GRAIN)).astype(np.int64) << (SHIFT - GRAIN)
        kinds = np.zeros(len(uids), dtype=np.int64) if kinds is None else kinds[order]
        rank = np.empty(len(uids), dtype=np.uint64)
        rank[np.lexsort((mixed(uids, keyed.key(seed, "turn")), steps, kinds))] = np.arange(len(uids), dtype=np.uint64)
        start = np.uint64(keyed.key(seed, "turns"))
        phases = ((rank * _GOLDEN + start) & np.uint64(ONCE - 1)).astype(np.int64)
        return Turns(uids, steps, phases)

    @staticmethod
    def whole(uids: np.ndarray, times: np.ndarray) -> Turns:
        """As often as is said, in every epoch. The uids are ascending."""
        return Turns(uids, times.astype(np.int64) << SHIFT, np.zeros(len(uids), dtype=np.int64))

    def __len__(self) -> int:
        return len(self.uids)

    @property
    def is_whole(self) -> bool:
        """Every epoch is alike."""
        return not np.any(self.steps & (ONCE - 1))

    @property
    def expected(self) -> float:
        """Images of an epoch; the real number of one is within as many of it as there are pictures, and mostly within a few."""
        return int(self.steps.sum()) / ONCE

    def select(self, uids: Sequence[int] | np.ndarray) -> Turns:
        """Those of these that come at all. A picture that nothing was said of does not come."""
        chosen = np.sort(np.asarray(uids, dtype=np.int64))
        rows = np.searchsorted(self.uids, chosen)
        rows = rows[(rows < len(self)) & (self.uids[np.minimum(rows, len(self) - 1)] == chosen)]
        rows = rows[self.steps[rows] > 0]
        return Turns(self.uids[rows], self.steps[rows], self.phases[rows])

    def before(self, epoch: int) -> np.ndarray:
        """How often each came before an epoch, int64."""
        return (epoch * self.steps + self.phases) >> SHIFT

    def visits(self, epoch: int) -> np.ndarray:
        """How often each comes in it, int64."""
        return self.before(epoch + 1) - self.before(epoch)

    def epoch_at(self, position: int) -> tuple[int, int]:
        """The epoch that image `position` of the endless row is in, and at which it begins."""
        mean = self.expected
        low, high = max(0, int((position - len(self)) / mean) - 1), int((position + len(self)) / mean) + 2
        while high - low > 1:  # the last epoch that begins at or before it: empty ones are passed over
            middle = (low + high) // 2
            low, high = (middle, high) if self._begin(middle) <= position else (low, middle)
        return low, self._begin(low)

    def _begin(self, epoch: int) -> int:
        return int(self.before(epoch).sum())

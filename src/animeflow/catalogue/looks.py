"""What pictures look like, kept beside the table: fingerprints and what the screen measured. Knows verdicts; opens no picture."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..image.evidence import screen
from . import beside
from .check import Checked

MOST = 16_384  # kept in memory between two writes; a fingerprint has about 1 KB


class Looks:
    """Taken one by one, written down by `save`, and merged into the tables by `settle`.

    Args:
        folder: of the catalogue.
    """

    def __init__(self, folder: Path) -> None:
        self.prints, self.scores = folder / "prints.parquet", folder / "scores" / "screen.parquet"
        self._new: dict[int, Checked] = {}

    @property
    def full(self) -> bool:
        return len(self._new) >= MOST

    def put(self, uid: int, checked: Checked, *, decoded: bool) -> None:
        """Take a picture's. Of one that was not decoded now, they may be written already."""
        if decoded or not self._is_written(uid):
            self._new[uid] = checked

    def save(self) -> None:
        """What was taken outlives a killed run."""
        looks = sorted(self._new.items())
        beside.append(
            self.prints, beside.PRINTS, ({"uid": uid, "print": look.print} for uid, look in looks if look.print)
        )
        beside.append(
            self.scores,
            beside.SCORES,
            ({"uid": uid, "name": name, "score": score} for uid, look in looks for name, score in look.measures),
            about={"tool": "screen", "version": str(screen.VERSION)},
        )
        self._new = {}

    def settle(self) -> None:
        """Everybody sees what was saved."""
        beside.settle(self.prints, beside.PRINTS)
        beside.settle(self.scores, beside.SCORES)

    def _is_written(self, uid: int) -> bool:
        at = int(np.searchsorted(self._written, uid))
        return at < len(self._written) and int(self._written[at]) == uid

    @cached_property
    def _written(self) -> NDArray[np.int64]:
        """Pictures that both tables had when the first was asked for, sorted."""
        return np.intersect1d(beside.uids(self.prints), beside.uids(self.scores), assume_unique=True)

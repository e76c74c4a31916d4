"""What training saw of every picture: how often, and its loss beside that of its timesteps. Knows numbers; knows no model.

A picture whose loss is far above what its timesteps let expect, visit after visit, is a broken file, a wrong caption, or a kind of
picture the set has too few of: `ledger.parquet` is a list for a person to look at, the highest first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from ..core import files

BINS = 5
"""Fifths of [0, 1] in which a picture's scores are kept."""
Named = Callable[[np.ndarray], Sequence[str | None] | None]
"""uids -> the component of the mixture that each is of; None without a mixture."""
_FINE = 20  # bins of the running mean and spread that scores are made against
_MEMORY = 512  # images of a fine bin after which an old loss counts half


class Ledger:
    """One row per picture.

    A score is z = (log loss - mean) / spread, with the running mean and spread of log losses of the same twentieth of t, so it
    compares pictures that were seen at different t and at different times of a run.
    """

    def __init__(self) -> None:
        self.uids = np.empty(0, dtype=np.int64)
        self.seen = np.empty(0, dtype=np.int64)
        self.scores = np.empty((0, BINS), dtype=np.float32)  # sums of z
        self.counts = np.empty((0, BINS), dtype=np.int32)  # number of them
        self.bad = np.empty(0, dtype=np.int32)  # visits whose loss was no number
        self._law = np.zeros((3, _FINE))  # weight, mean, mean of squares of log losses

    def __len__(self) -> int:
        return len(self.uids)

    def add(self, uids: np.ndarray, loss: np.ndarray, t: np.ndarray) -> None:
        """Visits in the order of data: `uids` int64, `loss` and `t` float. Their order decides the last bits of the scores."""
        self.know(uids)
        rows = np.searchsorted(self.uids, uids)
        np.add.at(self.seen, rows, 1)
        good = np.isfinite(loss)
        np.add.at(self.bad, rows[~good], 1)
        log = np.log(np.maximum(loss[good].astype(np.float64), 1e-12))
        fine = np.clip((t[good] * _FINE).astype(np.int64), 0, _FINE - 1)
        z = self._score(log, fine)
        coarse = np.clip((t[good] * BINS).astype(np.int64), 0, BINS - 1)
        np.add.at(self.scores, (rows[good], coarse), z.astype(np.float32))
        np.add.at(self.counts, (rows[good], coarse), 1)

    def know(self, uids: np.ndarray) -> None:
        """Make rows for pictures that have none. A whole set at once, or many steps at once: every time all rows move."""
        at = np.searchsorted(self.uids, uids)
        there = np.zeros(len(uids), dtype=bool)
        inside = at < len(self.uids)
        there[inside] = self.uids[at[inside]] == uids[inside]
        new = np.unique(uids[~there])
        if len(new):
            places = np.searchsorted(self.uids, new)
            self.uids = np.insert(self.uids, places, new)
            self.seen = np.insert(self.seen, places, 0)
            self.bad = np.insert(self.bad, places, 0)
            self.scores = np.insert(self.scores, places, 0, axis=0)
            self.counts = np.insert(self.counts, places, 0, axis=0)

    def _score(self, log: np.ndarray, fine: np.ndarray) -> np.ndarray:
        """z of every loss against the law before these; then the law learns them."""
        weight, mean, square = self._law
        spread = np.sqrt(np.maximum(square - mean**2, 1e-6))
        z = np.where(weight[fine] >= 8, (log - mean[fine]) / spread[fine], 0.0)
        z = np.clip(z, -10, 10)
        number = np.bincount(fine, minlength=_FINE)
        some = number > 0
        keep = 0.5 ** (number / _MEMORY)
        for row, values in ((1, log), (2, log**2)):
            fresh = np.bincount(fine, values, minlength=_FINE) / np.maximum(number, 1)
            # Until the bin is full it is a plain mean, so that the first loss does not stay in it for long.
            share = np.maximum(1 - keep, number / np.maximum(weight + number, 1))
            self._law[row] = np.where(some, (1 - share) * self._law[row] + share * fresh, self._law[row])
        self._law[0] = np.minimum(weight + number, 1e6)
        return z

    def table(self, named: Named | None = None) -> pa.Table:
        """Columns `uid` (as in file names), `times_seen`, `z` (mean over all visits), `z_t0` .. `z_t4` (by fifth of t; null where
        it was not seen there), `not_finite`, and `component` of the mixture where there is one; those without a finite loss
        first, then the highest `z`."""
        visits = self.counts.sum(1)
        z = self.scores.sum(1) / np.maximum(visits, 1)
        order = np.lexsort((-z, -self.bad))
        columns: dict[str, Any] = {
            "uid": pa.array(_keys(self.uids[order])),
            "times_seen": pa.array(self.seen[order]),
            "z": pa.array(z[order].astype(np.float32), mask=(visits == 0)[order]),
        }
        for i in range(BINS):
            count = self.counts[order, i]
            mean = self.scores[order, i] / np.maximum(count, 1)
            columns[f"z_t{i}"] = pa.array(mean.astype(np.float32), mask=count == 0)
        columns["not_finite"] = pa.array(self.bad[order])
        if named is not None and (components := named(self.uids[order])) is not None:
            columns["component"] = pa.array(components, pa.string())
        return pa.table(columns)

    def write(self, path: Path, named: Named | None = None) -> None:
        """The table as Parquet, whole or not at all."""
        with files.atomic_path(path) as temporary:
            pq.write_table(self.table(named), temporary, compression="zstd")

    # -- state ---------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors that give every bit back."""
        arrays = {
            "uids": self.uids, "seen": self.seen, "scores": self.scores, "counts": self.counts, "bad": self.bad,
            "law": self._law,
        }  # fmt: skip
        return {name: torch.from_numpy(np.ascontiguousarray(array).copy()) for name, array in arrays.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        arrays = {name: tensor.numpy().copy() for name, tensor in state.items()}
        self.uids, self.seen, self.bad = arrays["uids"], arrays["seen"], arrays["bad"]
        self.scores, self.counts, self._law = arrays["scores"], arrays["counts"], arrays["law"]


def _keys(uids: np.ndarray) -> list[str]:
    """Uids as in file names: `manifest.key` of millions."""
    digits = uids.astype(">u8").tobytes().hex()
    return [digits[i : i + 16] for i in range(0, len(digits), 16)]

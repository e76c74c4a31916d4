"""More of the rare and less of the common: count^-alpha, within bounds. Knows columns of facts; knows no mixture.

A drawing of somebody who is drawn ten times weighs as one of ten, whoever else is on it: the rarest of its groups counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ..core.errors import ConfigError, did_you_mean
from ..text.tags import CATEGORIES
from .conditions import WORDS, tags_like


@dataclass(frozen=True)
class Balance:
    """How much rarity counts.

    Args:
        by: what pictures are counted by: character, copyright, artist, another fact, or patterns of tags (`*_hair`); several make
            one pool of groups.
        alpha: 0 changes nothing, 1 shows every group as often as every other, as far as the bounds allow.
        cap: visits of a picture in an epoch at most, a whole number.
        floor: a picture keeps this much of its exposure at least.
    """

    by: tuple[str, ...]
    alpha: float
    cap: float = 4.0
    floor: float = 0.5

    def __post_init__(self) -> None:
        where = "data.loader.exposure.balance"
        if not 0 <= self.alpha <= 1:
            raise ConfigError(f"alpha={self.alpha} is not between 0 and 1", where=where, do="0.5 is a good beginning")
        if not 0 < self.floor <= 1:
            raise ConfigError(f"floor={self.floor} is not above 0 and at most 1", where=where, do="0.5 is usual")

    def columns(self) -> set[str]:
        """The facts that it counts."""
        return set().union(*(CATEGORIES if _is_pattern(word) else (word,) for word in self.by))


def factors(table: pa.Table, balance: Balance, at: str) -> np.ndarray:
    """Of every picture, between floor and cap. Those of pictures that are in a group have a mean of 1, and a picture in none keeps
    what it has: an epoch stays as long as it was.

    Raises:
        ConfigError: no picture is in any group.
    """
    rarest = _rarest(table, balance)
    grouped = rarest > 0
    if not grouped.any():
        raise ConfigError(
            f"no picture to train on has anything to be counted by: {', '.join(balance.by)}{_meant(balance)}", where=f"{at}.by",
            do=f"choose of {', '.join((*CATEGORIES, *WORDS))}, or patterns of tags as *_hair",
        )  # fmt: skip
    counts, pictures = np.unique(rarest[grouped], return_counts=True)
    levels = _levelled(counts.astype(np.float64) ** -balance.alpha, pictures, low=balance.floor, high=balance.cap)
    factor = np.ones(len(table))
    factor[grouped] = levels[np.searchsorted(counts, rarest[grouped])]
    return factor


def _rarest(table: pa.Table, balance: Balance) -> np.ndarray:
    """Pictures of the smallest group that each picture is in, 0 for one that is in none."""
    rarest = np.full(len(table), np.iinfo(np.int64).max)
    plain = [word for word in balance.by if not _is_pattern(word)]
    patterns = [word for word in balance.by if _is_pattern(word)]
    for name in plain:
        if name in WORDS:
            words = table[name].combine_chunks().dictionary_encode()
            rows = np.flatnonzero(words.is_valid().to_numpy(zero_copy_only=False))
            _count(rarest, rows, words.indices.drop_null().to_numpy(zero_copy_only=False))
        else:
            _count(rarest, *tags_like(table[name], ["*"])[:2])
    for category in CATEGORIES if patterns else ():
        _count(rarest, *tags_like(table[category], patterns)[:2])
    rarest[rarest == np.iinfo(np.int64).max] = 0
    return rarest


def _count(rarest: np.ndarray, rows: np.ndarray, groups: np.ndarray) -> None:
    """Lower `rarest` to the sizes of the groups that rows are in. A tag written twice counts once."""
    if len(rows):
        number = int(groups.max()) + 1
        pairs = np.sort(rows.astype(np.int64) * number + groups)
        rows, groups = np.divmod(pairs[np.diff(pairs, prepend=-1) > 0], number)
        np.minimum.at(rarest, rows, np.bincount(groups)[groups])


def _levelled(weights: np.ndarray, pictures: np.ndarray, *, low: float, high: float) -> np.ndarray:
    """clip(s weights, low, high) with the s that makes the mean over all pictures 1, by halving."""
    least, most = low / weights.max(), high / weights.min()
    for _ in range(200):
        scale = (least + most) / 2
        total = float((np.clip(scale * weights, low, high) * pictures).sum())
        least, most = (scale, most) if total < pictures.sum() else (least, scale)
    return np.clip(most * weights, low, high)


def _is_pattern(word: str) -> bool:
    return word not in CATEGORIES and word not in WORDS


def _meant(balance: Balance) -> str:
    known = (*CATEGORIES, *WORDS)
    unknown = (word for word in balance.by if "*" not in word and word not in known)
    return next((hint for word in unknown if (hint := did_you_mean(word, known))), "")

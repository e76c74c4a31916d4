"""Training and validation for drawings that belong together: no copy or version of one is on both sides. Knows uids and groups.

A picture alone is split by its own uid. Pictures that groups tie together, through any number of them, are split by one of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa

from ..catalogue.split import split_of


def together(
    uids: Iterable[int], groups: pa.Table, *, val_share: float, earlier: Mapping[int, str] | None = None
) -> dict[int, str]:
    """uid -> `train` or `val`, about `val_share` of all families in `val`.

    The smallest uid of a family speaks for it, also when the picture itself is not among `uids`: so what a filter leaves out
    changes the side of nobody. When a family of n grows, it changes sides with a chance of 2 val_share (1 - val_share) / (n + 1);
    with `earlier` it does not.

    Args:
        groups: columns `uid` and `group` (a uid too) of any kinds, `groups.parquet`.
        earlier: what was said before. A family of which something was trained on stays in `train`, else in `val` if it was there.
    """
    wanted = np.fromiter(uids, dtype=np.int64)
    speaker = dict(zip(wanted.tolist(), _speakers(wanted, groups).tolist(), strict=True))
    settled: dict[int, str] = {}
    for uid, split in (earlier or {}).items():
        if (family := speaker.get(uid)) is not None and settled.get(family) != "train":
            settled[family] = split
    drawn = {family: settled.get(family) or split_of(family, val_share) for family in set(speaker.values())}
    return {uid: drawn[family] for uid, family in speaker.items()}


def _speakers(uids: np.ndarray, groups: pa.Table) -> np.ndarray:
    """The smallest uid of the family of each of `uids`."""
    ends = [groups[name].combine_chunks().to_numpy(zero_copy_only=False).astype(np.int64) for name in ("uid", "group")]
    nodes, places = np.unique(np.concatenate([uids, *ends]), return_inverse=True)
    own, a, b = np.split(places.reshape(-1), [len(uids), len(uids) + len(ends[0])])
    return nodes[_smallest(len(nodes), a, b)[own]]


def _smallest(count: int, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The smallest node that each of `count` nodes is tied to by edges a-b: labels fall along edges, and labels of labels halve the
    way that is left, so that a chain of n takes log n rounds."""
    label = np.arange(count)
    while True:
        low = np.minimum(label[a], label[b])
        before = label.copy()
        for end in (label[a], label[b], a, b):
            np.minimum.at(label, end, low)
        label = label[label]
        if np.array_equal(label, before):
            return label

"""Of several files of one drawing the best that may stay. Knows groups and numbers; knows no picture."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

ABOUT_THE_FILE = (
    "dup",
    "duplicate",
    "lowres",
    "crop",
    "cropped",
    "watermark",
    "jpeg",
    "compression",
    "upscaled",
    "resized",
)
"""Reasons to reject a file that say nothing of another file of the same drawing."""


def not_best(
    rows: np.ndarray, groups: np.ndarray, uids: np.ndarray, pixels: np.ndarray, size: np.ndarray
) -> np.ndarray:
    """Of `rows`, each in one of `groups`, those that a better one of its group stands for.

    Best is the one that the groups name; where it is not among the rows, the one of most pixels, then most bytes, then the
    smallest uid.
    """
    order = np.lexsort((uids[rows], -size[rows], -pixels[rows], uids[rows] != groups, groups))
    first = np.ones(len(order), bool)
    first[1:] = groups[order][1:] != groups[order][:-1]
    return rows[order[~first]]


def drawings_rejected(decided: pa.Table) -> np.ndarray:
    """uids of pictures that people rejected for what they show. A word of `ABOUT_THE_FILE` alone is none of that."""
    rejected = decided.filter(pa.array(decided["review"].to_numpy(zero_copy_only=False) == "reject"))
    shows = [not _about_the_file(reason) for reason in rejected["review_reason"].to_pylist()]
    return rejected["uid"].to_numpy()[np.array(shows, bool)]


def _about_the_file(reason: str) -> bool:
    words = [word.strip().lower().replace(" ", "_") for word in reason.split(";") if word.strip()]
    return bool(words) and all(word in ABOUT_THE_FILE for word in words)

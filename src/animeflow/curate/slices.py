"""Equal parts of any set, as a function of the picture alone. Knows integers.

A third to train on now, another third to go on with: the parts share no picture and miss none, whatever the set is, and a picture
that comes later belongs to the part that it would always have belonged to.
"""

from __future__ import annotations

import re

import numpy as np

from ..core.errors import ConfigError
from ..core.mixed import mixed

KEY = 0x51CE5A11D1CE5EED
"""Other than that of every other draw of a picture, such as the validation split."""
MOST = 2**20
"""Parts. More of them would be of unlike sizes: the draw has 32 bits."""


def slices(uids: np.ndarray, of: int) -> np.ndarray:
    """The part, 0 to `of - 1`, of every picture, int64. Part i of n is parts 2i and 2i + 1 of 2n together, and so on.

    Raises:
        ConfigError: there are no so many parts.
    """
    if not isinstance(of, int) or isinstance(of, bool) or not 1 <= of <= MOST:
        raise ConfigError(f"a set has no {of!r} parts", where="curate.slice", do=f"choose 1 to {MOST:,}, as in 0/3")
    drawn = mixed(uids, KEY) >> np.uint64(32)
    return ((drawn * np.uint64(of)) >> np.uint64(32)).astype(np.int64)


def in_slice(uid: int, part: int, of: int) -> bool:
    """Whether a picture is in part `part` (from 0) of `of`. Raises ConfigError for a part that there is not."""
    require(part, of)
    return bool(slices(np.array([uid], dtype=np.int64), of)[0] == part)


def read_slice(word: str) -> tuple[int, int]:
    """`0/3` as (part, of). Raises ConfigError for another form and for a part that there is not."""
    found = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", str(word))
    if not found:
        raise ConfigError(f"'{word}' is not of the form PART/OF", where="curate.slice", do="for example 0/3, 1/3, 2/3")
    part, of = int(found[1]), int(found[2])
    require(part, of)
    return part, of


def require(part: int, of: int) -> None:
    if not 0 <= part < of:
        raise ConfigError(
            f"there is no part {part} of {of}",
            where="curate.slice",
            do=f"they are counted from 0: 0/{of} to {of - 1}/{of}",
        )

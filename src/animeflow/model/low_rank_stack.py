"""Additions to layers that another program keeps as one, rows below rows. Knows matrices; knows no name.

Three layers that read the same input (queries, keys, values) are one matrix with three blocks of rows there. Three additions
become one by putting the A's below each other and the B's on a diagonal, which is exact; the way back needs no decomposition
either. Left as they are: an addition of rank r to the joined matrix gives each part rank r, with the same A.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..core.errors import ConfigError, DataError
from .low_rank import LowRank


def stacked(parts: Sequence[LowRank | None], *, what: str) -> LowRank:
    """One addition to the joined layer; a part without one gets zeros.

    The scale is that of the first part; where another's differs, its B takes the difference.

    Raises:
        DataError: the parts differ in width.
        ConfigError: some have a DoRA magnitude and others none: what a missing one would be only the base knows.
    """
    here = [part for part in parts if part is not None]
    rows, scale = here[0].up.shape[0], here[0].scale or 1.0
    widths = {(part.up.shape[0], part.down.shape[1]) for part in here}
    if len(widths) > 1:
        raise DataError(
            f"the parts of {what} have different widths: {sorted(widths)}", do="check that the file is whole"
        )
    up = here[0].up.new_zeros(len(parts) * rows, sum(part.rank for part in here), dtype=torch.float32)
    column = 0
    for index, part in enumerate(parts):
        if part is not None:
            block = slice(index * rows, (index + 1) * rows), slice(column, column + part.rank)
            up[block] = part.up.detach().float() * (part.scale / scale)
            column += part.rank
    down = torch.cat([part.down.float() for part in here])
    return LowRank(down, up, scale * down.shape[0], _magnitudes(parts, what=what))


def unstacked(whole: LowRank, count: int, *, what: str) -> list[LowRank | None]:
    """The additions to `count` parts, exact; None for a part that has only zeros.

    Where no rank serves two parts, each part keeps only its own ranks: what `stacked` wrote comes back as it was. Else every part
    gets the whole A. The scale stays what a program computes from the file: of kohya's `split_qkv=True`, which saves alpha
    as if the rank were a third, that is a third of what was trained, in every program.

    Raises:
        DataError: the rows do not divide.
    """
    if whole.up.shape[0] % count:
        raise DataError(f"'{what}' has {whole.up.shape[0]} rows, which do not divide into {count}")
    blocks = list(whole.up.chunk(count))
    lengths = [None] * count if whole.magnitude is None else list(whole.magnitude.chunk(count))
    used = torch.stack([(block != 0).any(dim=0) for block in blocks])  # [part, rank]
    shared = [LowRank(whole.down.clone(), block.clone(), whole.alpha) for block in blocks]
    parts: list[LowRank | None] = [part if part.up.any() else None for part in shared]
    if not (used.sum(dim=0) > 1).any():
        owner = _owners(used)
        parts = [_own(whole, block, owner == index) for index, block in enumerate(blocks)]
    if whole.magnitude is not None or not any(parts):
        parts = [part or everything for part, everything in zip(parts, shared, strict=True)]
    return [part and replace(part, magnitude=length) for part, length in zip(parts, lengths, strict=True)]


def halves_swapped(addition: LowRank) -> LowRank:
    """The two halves of the rows the other way round, where there are two."""
    if addition.up.shape[0] != 2 * addition.down.shape[1]:
        return addition
    magnitude = None if addition.magnitude is None else torch.cat(addition.magnitude.chunk(2)[::-1])
    return replace(addition, up=torch.cat(addition.up.chunk(2)[::-1]), magnitude=magnitude)


def _own(whole: LowRank, block: Tensor, mine: Tensor) -> LowRank | None:
    down, up = whole.down[mine], block[:, mine]
    return LowRank(down, up, whole.scale * down.shape[0]) if down.any() or up.any() else None


def _owners(used: Tensor) -> Tensor:
    """Which part each rank belongs to, where none belongs to two. A rank that B does not use yet goes where an even division puts
    it, or else with its neighbour; all of a B that is zero as evenly as they go."""
    count, rank = used.shape
    even, owner, taken = torch.arange(rank) * count // rank, used.int().argmax(dim=0), used.any(dim=0)
    if not taken.any() or (rank % count == 0 and not used[torch.arange(count)[:, None] != even].any()):
        return even
    last = int(owner[taken][0])
    for column in range(rank):
        last = int(owner[column]) if taken[column] else last
        owner[column] = last
    return owner


def _magnitudes(parts: Sequence[LowRank | None], *, what: str) -> Tensor | None:
    found = [part.magnitude for part in parts if part is not None and part.magnitude is not None]
    if not found:
        return None
    if len(found) < len(parts):
        raise ConfigError(
            f"{len(found)} of the {len(parts)} parts of {what} have a DoRA magnitude",
            why="in this dialect they are one layer, and the others' magnitudes are lengths of rows of the base",
            do="train all of them, or write the dialect peft or diffusers, which keep them apart",
        )
    return torch.cat([magnitude.float() for magnitude in found])

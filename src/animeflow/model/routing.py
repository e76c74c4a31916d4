"""Part of the picture's tokens pass some blocks by, and come back after them. Knows tokens and their positions; knows no family.

Krause et al., arXiv 2501.04765 ("TREAD"): between an early and a late block only a random share of the picture's tokens is worked
on; the others keep what they were. Text tokens all stay, and none passes by outside training. No family offers it as a setting
yet: a backbone that does calls `routed` around its inner blocks, with the rotations of `rows_of` for the tokens that stay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..core.errors import ConfigError
from ..core.seed import generator


def staying(tokens: int, images: Sequence[tuple[int, int]], *, share: float, seed: int) -> Tensor:
    """For each image the tokens that are worked on, `[B, K]`, in the order of the picture: a function of seed, image and visit,
    so neither accumulation nor the number of processes changes it; K is the same for all images of a size.

    Args:
        images: uid and visit of every image.
        share: of the tokens that pass by.
    """
    count = tokens - int(share * tokens)
    orders = [torch.randperm(tokens, generator=generator(seed, *image, "route")) for image in images]
    return torch.stack([order[:count].sort().values for order in orders])


def inner_blocks(count: int, *, first: int = 2, last: int = 4) -> slice:
    """The blocks that some tokens pass by: all but the `first` and the `last` so many. Raises ConfigError where none is left."""
    if first < 0 or last < 0 or first + last >= count:
        raise ConfigError(
            f"between the first {first} and the last {last} of {count} blocks there is none to pass by",
            do="leave fewer blocks dense, or route no tokens in a network this small",
        )
    return slice(first, count - last)


def rows_of(table_LX: Tensor, staying_BK: Tensor) -> Tensor:
    """The rows `[B, K, ...]` of a table over the tokens of the picture: what says where a token is has to stay with it."""
    return table_LX[staying_BK]


def routed(x_BLD: Tensor, staying_BK: Tensor, work: Callable[[Tensor], Tensor]) -> Tensor:
    """`work` on the tokens that stay, `[B, K, D]`; the others come out as they went in, gradients too."""
    at_BKD = staying_BK[:, :, None].expand(-1, -1, x_BLD.shape[2])
    return x_BLD.scatter(1, at_BKD, work(x_BLD.gather(1, at_BKD)).to(x_BLD.dtype))

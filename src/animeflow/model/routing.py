"""Part of the picture's tokens pass some blocks by, and come back after them. Knows tokens and their positions; knows no family.

Krause et al., arXiv 2501.04765 ("TREAD"): between an early and a late block only a random share of the picture's tokens is worked
on; the others keep what they were. Text tokens all stay, and none passes by outside training.

    route = Route(share=0.5)                   # what is asked for
    route_tokens(backbone, route)              # on a backbone that has `route`; None ends it

Who stays is read off the noisy picture itself: its bits and those of t are the seed of the draw. So it needs no generator, nothing
on the way from recipe to block, and no word from the device to the host; and a resumed run, another accumulation or another number
of processes draws the same for the same picture, noise and t.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..core.errors import ConfigError

# SplitMix64 (Steele et al., OOPSLA 2014): a counter in steps of GOLDEN, and two rounds that let every bit of it reach all.
GOLDEN = 0x9E3779B97F4A7C15
ROUNDS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))


@dataclass(frozen=True)
class Route:
    """Which tokens pass which blocks by.

    Args:
        share: of the picture's tokens.
        first, last: block that they pass by first and last, counted as in a list: -4 is the fourth from the end.
    """

    share: float
    first: int = 2
    last: int = -4

    def blocks(self, count: int) -> range:
        """Of so many blocks, those that are passed by. Raises ConfigError where there is none."""
        start, end = (place if place >= 0 else count + place for place in (self.first, self.last))
        if not 0 <= start <= end < count:
            raise ConfigError(
                f"from block {self.first} to block {self.last} of {count} there is none to pass by",
                where="train.routing",
                do="choose first and last closer to the ends, or route no tokens in a network this small",
            )
        return range(start, end + 1)

    def num_staying(self, tokens: int) -> int:
        """How many of a picture's tokens are worked on: at least one."""
        return max(1, tokens - round(self.share * tokens))

    def staying(self, x_BChw: Tensor, t_B: Tensor, *, tokens: int) -> Tensor:
        """For each noisy picture its tokens that are worked on, `[B, K]`, in the order of the picture."""
        order_BS = scores(x_BChw, t_B, tokens=tokens).argsort(dim=1)
        return order_BS[:, : self.num_staying(tokens)].sort(dim=1).values


def route_tokens(backbone: nn.Module, route: Route | None) -> None:
    """Let tokens of `backbone` pass blocks by while it is trained, from the next forward pass on; None: none passes by.

    Raises:
        ConfigError: the backbone does not route, or has no such blocks.
    """
    tell = getattr(backbone, "route", None)
    if tell is not None:
        tell(route)
    elif route is not None:
        raise ConfigError(
            "this model does not let tokens pass blocks by", where="train.routing.share", do="set train.routing.share=0"
        )


def scores(x_BChw: Tensor, t_B: Tensor, *, tokens: int) -> Tensor:
    """A random number for every token of every picture, int64 `[B, tokens]`: SplitMix64's, with the picture's bits as seed.

    Integers that overflow wrap around, so no sum depends on its order, and the numbers are the same wherever they are made.
    """
    bits_BE = torch.cat([x_BChw.detach().float().flatten(1), t_B.detach().float()[:, None]], 1).view(torch.int32).long()
    odd_E = 2 * torch.arange(bits_BE.shape[1], device=x_BChw.device) + 1
    seed_B1 = _mixed((bits_BE * (odd_E * _signed(GOLDEN))).sum(dim=1, keepdim=True))
    return _mixed(seed_B1 + (torch.arange(tokens, device=x_BChw.device) + 1) * _signed(GOLDEN))


def _mixed(z: Tensor) -> Tensor:
    for shift, factor in ROUNDS:
        z = (z ^ _shifted(z, shift)) * _signed(factor)
    return z ^ _shifted(z, 31)


def _shifted(z: Tensor, bits: int) -> Tensor:
    """To the right with zeros coming in: torch's own shift of a negative number brings ones."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _signed(word: int) -> int:
    """The 64 bits of `word` as the number that torch has for them."""
    return word - (1 << 64) if word >> 63 else word


def rows_of(table_LX: Tensor, staying_BK: Tensor) -> Tensor:
    """The rows `[B, K, ...]` of a table over the tokens of the picture: what says where a token is has to stay with it."""
    return table_LX[staying_BK]


def routed(x_BLD: Tensor, staying_BK: Tensor, work: Callable[[Tensor], Tensor]) -> Tensor:
    """`work` on the tokens that stay, `[B, K, D]`; the others come out as they went in, gradients too."""
    at_BKD = staying_BK[:, :, None].expand(-1, -1, x_BLD.shape[2])
    done_BKD = work(x_BLD.gather(1, at_BKD))
    dtype = torch.promote_types(
        x_BLD.dtype, done_BKD.dtype
    )  # under autocast what a block adds may be finer than its input
    return x_BLD.to(dtype).scatter(1, at_BKD, done_BKD.to(dtype))

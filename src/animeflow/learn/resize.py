"""Another rank for a LoRA: the nearest delta W of that rank, by singular values (Eckart, Young). Knows additions; knows no file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from ..core.errors import ConfigError
from ..model.low_rank import LowRank, LowRankState
from .spectrum import Spectrum, spectrum


@dataclass(frozen=True)
class Resized:
    """One layer: its ranks, and how much of |delta W|^2 there was and is left."""

    before: int
    after: int
    energy: float
    kept_energy: float

    @property
    def kept(self) -> float:
        """The share of |delta W|^2 that is left."""
        return self.kept_energy / self.energy if self.energy > 0 else 1.0


def resize(
    state: LowRankState, *, rank: int | None = None, keep: float | None = None
) -> tuple[dict[str, LowRank], dict[str, Resized]]:
    """Every layer with at most `rank`, or with the least rank that holds the share `keep` of its |delta W|^2; and what that cost.

    A layer that would not shrink stays as it is, number by number. The others keep the scale alpha / rank they had, so that
    training goes on from them as from the file. Lengths of DoRA are kept: they are learned apart.

    Raises:
        ConfigError: not exactly one of both is given, or it makes no sense.
    """
    choose = _choice(rank, keep)
    state_of: dict[str, LowRank] = {}
    told: dict[str, Resized] = {}
    for layer, addition in state.items():
        found = spectrum(addition)
        size = choose(found)
        kept = addition if size >= addition.rank else _cut(addition, found, min(size, len(found.values)))
        state_of[layer] = kept
        squares = found.values.square()
        left = squares if kept is addition else squares[: kept.rank]
        told[layer] = Resized(addition.rank, kept.rank, float(squares.sum()), float(left.sum()))
    return state_of, told


def kept_of_all(told: Mapping[str, Resized]) -> float:
    """The share of all layers' |delta W|^2 that is left."""
    total = sum(each.energy for each in told.values())
    return sum(each.kept_energy for each in told.values()) / total if total > 0 else 1.0


def _cut(addition: LowRank, found: Spectrum, size: int) -> LowRank:
    """The first `size` singular directions, each shared evenly between up and down, in the dtype and shapes of before."""
    scale = addition.scale if addition.scale > 0 else 1.0
    root = (found.values[:size] / scale).sqrt()
    up = (found.left[:, :size] * root).to(addition.up.dtype)
    down = (root[:, None] * found.right[:size]).to(addition.down.dtype)
    return LowRank(
        down=down.reshape(size, *addition.down.shape[1:]).contiguous(),
        up=up.reshape(-1, size, *addition.up.shape[2:]).contiguous(),
        alpha=scale * size,
        magnitude=addition.magnitude,
    )


def _choice(rank: int | None, keep: float | None) -> Callable[[Spectrum], int]:
    if (rank is None) == (keep is None):
        raise ConfigError("give either a rank or the share to keep", where="--rank, --keep", do="for example --rank 8")
    if rank is not None:
        if rank < 1:
            raise ConfigError(f"rank {rank} is not 1 or above", where="--rank", do="8 to 32 are usual")
        return lambda found: rank
    assert keep is not None
    if not 0 < keep <= 1:
        raise ConfigError(
            f"{keep:g} is no share of energy above 0 and up to 1", where="--keep", do="for example --keep 0.95"
        )
    return lambda found: _least(found, keep)


def _least(found: Spectrum, keep: float) -> int:
    """The least number of values that hold the share `keep`; 1 of a layer that adds nothing."""
    rounding = 1e-12  # the last share is one but for rounding
    enough = torch.nonzero(found.energy >= keep - rounding)
    return max(1, int(enough[0]) + 1) if found.values.sum() > 0 else 1

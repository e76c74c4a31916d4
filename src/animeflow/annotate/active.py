"""How many labels a detector needs where a person is asked about the pictures that it doubts, beside pictures drawn at random.

Pictures whose origin is known stand for the person: the first labels are drawn at random, then by rounds a head is trained on
what is labelled, and the next ones are asked for, by doubt or at random. Each head is measured on pictures never asked about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..core import seed as keyed
from ..core.errors import ConfigError
from .detector import auc, queue
from .encoder import Vectors
from .head import Head, HeadBudget, fit

WAYS = ("doubt", "score", "random")


@dataclass(frozen=True)
class Curve:
    """Area under the curve after so many labels, for the way in which they were asked for."""

    labels: tuple[int, ...]
    auc: tuple[float, ...]

    def needed(self, wanted: float) -> int | None:
        """The fewest labels from which on it stays at `wanted` or above; None where it never does."""
        below = [number for number, reached in enumerate(self.auc) if reached < wanted]
        first = below[-1] + 1 if below else 0
        return self.labels[first] if first < len(self.labels) else None


def learn(
    pool_ND: Vectors,
    made_N: NDArray[np.bool_],
    test_MD: Vectors,
    test_made_M: NDArray[np.bool_],
    *,
    by: str,
    rounds: Sequence[int],
    budget: HeadBudget,
    seed: int = 0,
) -> Curve:
    """Ask about pictures of a pool until `rounds[-1]` are labelled, and measure after each round.

    Args:
        pool_ND, made_N: vectors, and what the person would say of each. test_MD, test_made_M: those that measure.
        by: `doubt` asks about what is nearest to a half, `score` about the likeliest, `random` about any.
        rounds: how many are labelled after each, ascending.
    """
    if by not in WAYS or list(rounds) != sorted(set(rounds)) or not rounds or rounds[-1] > len(pool_ND):
        raise ConfigError(f"{by=} with {list(rounds)} of {len(pool_ND)} pictures", where="annotate.active")
    order = [int(place) for place in keyed.permutation(len(pool_ND), seed, "first labels")]
    asked, reached = list[int](), list[float]()
    for number in rounds:
        asked += _next(
            order, asked, number - len(asked), by=by, pool_ND=pool_ND, made_N=made_N, budget=budget, seed=seed
        )
        scores_M = _head(pool_ND, made_N, asked, budget, seed).scores(test_MD)
        reached.append(auc(scores_M[test_made_M].tolist(), scores_M[~test_made_M].tolist()))
    return Curve(tuple(rounds), tuple(reached))


def _next(
    order: list[int], asked: list[int], count: int, *, by: str, pool_ND: Vectors, made_N: NDArray[np.bool_],
    budget: HeadBudget, seed: int,
) -> list[int]:  # fmt: skip
    rest = [place for place in order if place not in set(asked)]
    if by == "random" or not asked:
        return rest[:count]
    scores = _head(pool_ND, made_N, asked, budget, seed).scores(pool_ND[rest])
    return queue(dict(zip(rest, scores.tolist(), strict=True)), by=by)[:count]


def _head(pool_ND: Vectors, made_N: NDArray[np.bool_], asked: list[int], budget: HeadBudget, seed: int) -> Head:
    return fit(pool_ND[asked], made_N[asked], budget=budget, seed=seed)

"""Several ways to do one thing, by turns: A, B, A, B, ... Knows functions and a clock; knows not what they do.

A machine shared with other work is now fast and now slow. Turns meet the same minutes, so ratios hold where rates do not.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

Rates = dict[str, list[float]]
"""Way -> items per second, round by round."""


def by_turns(
    ways: Mapping[str, Callable[[], int]], *, rounds: int, clock: Callable[[], float] = time.process_time
) -> Rates:
    """Items per second of every way in every round. A way returns how many items it did; each runs once before, unmeasured.

    The clock counts the processor's seconds of all threads of this process, which is what a core can do.
    """
    rates: Rates = {name: [] for name in ways}
    for way in ways.values():
        way()
    for _ in range(rounds):
        for name, way in ways.items():
            started = clock()
            count = way()
            rates[name].append(count / max(clock() - started, 1e-9))
    return rates


def median(rates: Rates, name: str) -> float:
    return statistics.median(rates[name])


def ratio(rates: Rates, name: str, other: str) -> float:
    """How many times the rate of `other`: the median over rounds, each compared within itself."""
    return statistics.median(a / b for a, b in zip(rates[name], rates[other], strict=True))

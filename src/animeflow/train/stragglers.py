"""Which processes hold the others up, from seconds per step that all of them measured. Pure numbers; knows no process."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def slow_ranks(seconds: Sequence[float], *, factor: float = 1.5, least: float = 0.0) -> dict[int, float]:
    """Ranks above `factor` x the median and more than `least` above it, with their multiple of the median.

    The lower median, so that of two processes the slower one can be told.
    """
    if len(seconds) < 2:
        return {}
    middle = statistics.median_low(seconds)
    return {
        rank: own / middle if middle > 0 else float("inf")
        for rank, own in enumerate(seconds)
        if own > factor * middle and own - middle > least
    }


class Stragglers:
    """Remembers for how many windows in a row each rank was slow, and names it once when they are `windows`.

    Args:
        windows, factor: see above.
        share: of the median step that waiting for data must exceed the others' by before it counts.
    """

    def __init__(self, *, windows: int = 3, factor: float = 1.5, share: float = 0.1) -> None:
        self.windows, self.factor, self.share = windows, factor, share
        self._runs: dict[tuple[str, int], int] = {}

    def update(self, step_seconds: Sequence[float], wait_seconds: Sequence[float]) -> list[str]:
        """One window: mean seconds per step of every rank, of its own work (without the collectives, in which all wait for the
        slowest) and of its waiting for data. Returns sentences about ranks that have just become stragglers."""
        least = self.share * statistics.median_low(step_seconds) if step_seconds else 0.0
        slow = {
            "steps": slow_ranks(step_seconds, factor=self.factor),
            "waits for data": slow_ranks(wait_seconds, factor=self.factor, least=least),
        }
        now = {(what, rank): times for what, ranks in slow.items() for rank, times in ranks.items()}
        self._runs = {key: self._runs.get(key, 0) + 1 for key in now}
        seconds = {"steps": step_seconds, "waits for data": wait_seconds}
        return [
            f"rank {rank} is slow for {self.windows} windows: {what} of {seconds[what][rank]:.3g} s, "
            + (f"{times:.1f} x the median" if times != float("inf") else "where the others have none")
            for (what, rank), times in sorted(now.items())
            if self._runs[what, rank] == self.windows
        ]

"""When the loss on held-out pictures stopped falling. Knows the lines of `metrics.jsonl`; knows no model.

The loss is that at the middle noise levels, where what a picture is of is decided: a small set that is learned by heart shows there
first. It has the same pictures, noise and times at every point, so a difference is the weights', not luck. What is left is the
wobble of the weights themselves; the roughness of the curve tells how much that is, and a rise within it is not called one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from .run_folder import read_run

MIDDLE = (0.3, 0.8)
ENOUGH = 3  # points, below which a curve has no shape
WOBBLES = 3  # the lowest of many points lies some way below the course, and the end may lie above it, by wobble alone
STEADY = 3  # steps in a row
TOLERANCE = 0.002  # of the loss: less is not worth an advice, however smooth the curve
_TIME = re.compile(r"val/loss_t(\d*\.?\d+)$")


@dataclass(frozen=True)
class EarlyStop:
    """What a curve says.

    Attributes:
        points: (images seen, loss), in order.
        best_images, best_loss: its lowest point.
        last_images, last_loss: its end.
        wobble: how much of a rise is the curve's own roughness, in loss.
    """

    points: tuple[tuple[int, float], ...]
    best_images: int
    best_loss: float
    last_images: int
    last_loss: float
    wobble: float

    @property
    def rise(self) -> float:
        """How far the end is above the best, as a share of the best."""
        return (self.last_loss - self.best_loss) / self.best_loss if self.best_loss > 0 else 0.0

    @property
    def overfits(self) -> bool:
        """Whether the end is above the best by more than the curve wobbles, or has risen steadily from there: few points on a steep
        curve tell its roughness badly, and the same noise at every point makes a steady rise a real one."""
        after = [loss for images, loss in self.points if images >= self.best_images]
        steady = len(after) > STEADY and all(a < b for a, b in pairwise(after)) and self.rise > 5 * TOLERANCE
        return steady or self.last_loss - self.best_loss > max(WOBBLES * self.wobble, TOLERANCE * self.best_loss)

    @property
    def flat_from(self) -> int | None:
        """Images from which nothing more was won, where that is before the last fifth of a curve that does not rise."""
        reached = self.best_loss + max(self.wobble, TOLERANCE * self.best_loss)
        first = next(images for images, loss in self.points if loss <= reached)
        return None if self.overfits or first > 0.8 * self.last_images else first

    @property
    def sentence(self) -> str:
        """For the log and the page."""
        best, last = f"{self.best_images:,}", f"{self.last_images:,}"
        if self.overfits:
            return (
                f"the held-out loss was lowest at {best} images and is {100 * self.rise:.1f} % above that at {last}: "
                "a sign that from there on the pictures were learned by heart"
            )
        if self.flat_from is not None:
            return (
                f"the held-out loss stopped falling at about {self.flat_from:,} images and has not risen until {last}"
            )
        return f"the held-out loss was still falling at {last} images"

    @property
    def advice(self) -> str:
        """What to do; empty where nothing is."""
        if self.overfits:
            return (
                f"take the earlier state (animeflow ema name=RUN --sigma-rel 0.1 --images {self.best_images}, then export with "
                f"export.weights=FILE), or train again with train.images={self.best_images}"
            )
        if self.flat_from is not None:
            return f"train.images={self.flat_from} would have done"
        return "more images may still help: raise train.images"

    def as_dict(self) -> dict[str, Any]:
        told = {"rise": self.rise, "overfits": self.overfits, "flat_from": self.flat_from}
        return asdict(self) | {"points": [list(point) for point in self.points]} | told


def early_stop(metrics: Sequence[Mapping[str, Any]]) -> EarlyStop | None:
    """What the validation lines say; None below ENOUGH points. Later lines of the same number of images replace earlier ones, as a
    resumed run writes them again."""
    found = {int(line["images"]): loss for line in metrics if (loss := middle_loss(line)) is not None}
    points = tuple(sorted(found.items()))
    if len(points) < ENOUGH:
        return None
    best = min(points, key=lambda point: point[1])
    last = points[-1]
    return EarlyStop(points, best[0], best[1], last[0], last[1], _wobble([loss for _, loss in points]))


def hint(folder: str | Path) -> str | None:
    """One line about a run on disk, for its log; None where its held-out loss has no shape."""
    found = early_stop(read_run(folder).metrics)
    return None if found is None else f"{found.sentence}; {found.advice}"


def middle_loss(line: Mapping[str, Any]) -> float | None:
    """Validation loss at the middle noise levels of one line: as it is written, else the mean over the times that are."""
    value = line.get("val/loss_mid")
    if value is None:
        times = {key: float(match[1]) for key in line if (match := _TIME.match(key))}
        inside = [line[key] for key, t in times.items() if MIDDLE[0] <= t <= MIDDLE[1]]
        value = sum(inside) / len(inside) if inside and all(_finite(each) for each in inside) else None
    return float(value) if value is not None and _finite(value) else None


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _wobble(losses: Sequence[float]) -> float:
    """Standard deviation of the curve about its own course, from second differences: they are blind to a slope, and of noise s
    they have s * sqrt(6). The median keeps the steep beginning of a curve from counting as noise."""
    bends = sorted(abs(a - 2 * b + c) for a, b, c in zip(losses, losses[1:], losses[2:]))
    half = len(bends) // 2
    median = bends[half] if len(bends) % 2 else (bends[half - 1] + bends[half]) / 2
    return median / math.sqrt(6) / 0.6745  # median of |N(0, 1)|

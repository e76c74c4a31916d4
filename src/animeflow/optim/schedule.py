"""Learning-rate factor as a pure function of images seen, so that no number of processes can speed it up. Knows numbers only."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from ..core.errors import ConfigError


class Schedule(Protocol):
    def factor(self, images_seen: int, total_images: int) -> float:
        """Multiplier of the peak learning rate for the step that begins at `images_seen`."""


def _warmup(images_seen: int, warmup_images: int) -> float:
    # The first step begins at 0 images and must move too: the ramp counts the step it is asked for.
    return min(1.0, (images_seen + 1) / warmup_images) if warmup_images else 1.0


def _require_warmup(images: int) -> None:
    if not images >= 0:
        raise ConfigError(
            f"warmup_images {images} is below 0", where="optim.schedule.warmup_images", do="0 turns the warm-up off"
        )


@dataclass(frozen=True)
class Constant:
    """Constant with linear warm-up, for runs whose length is open."""

    warmup_images: int = 0

    def __post_init__(self) -> None:
        _require_warmup(self.warmup_images)

    def factor(self, images_seen: int, total_images: int) -> float:
        return _warmup(images_seen, self.warmup_images)


@dataclass(frozen=True)
class WSD:
    """Warm-up, stable, decay: the last `decay_share` of the run falls as 1 - sqrt(progress) to `final` (arXiv 2405.18392)."""

    warmup_images: int = 0
    decay_share: float = 0.2
    final: float = 0.0

    def __post_init__(self) -> None:
        _require_warmup(self.warmup_images)
        if not 0 <= self.decay_share <= 1:
            raise ConfigError(
                f"decay_share {self.decay_share} is not between 0 and 1",
                where="optim.schedule.decay_share",
                do="0.2 is usual; 0 never decays",
            )
        if not 0 <= self.final <= 1:
            raise ConfigError(
                f"final {self.final} is not between 0 and 1", where="optim.schedule.final", do="0 is usual"
            )

    def factor(self, images_seen: int, total_images: int) -> float:
        start = total_images * (1 - self.decay_share)
        factor = _warmup(images_seen, self.warmup_images)
        if self.decay_share and images_seen > start:
            progress = min(1.0, (images_seen - start) / (total_images - start))
            factor *= 1 - (1 - self.final) * math.sqrt(progress)
        return factor

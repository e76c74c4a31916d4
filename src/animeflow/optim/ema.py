"""Moving average of weights, counted in images. Knows parameters; knows no loop."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn


class EMA:
    """Float32 shadow of every trainable parameter with a half-life in images.

    Early in a run the half-life is capped at `ramp` times the images seen, so that the random start is forgotten (Karras et
    al., arXiv 2312.02696, section 3, use the same ramp). Build it after the learner got its final device and sharding.
    """

    def __init__(self, module: nn.Module, *, half_life_images: float, ramp: float = 0.1) -> None:
        self.half_life_images, self.ramp = half_life_images, ramp
        self._live = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self._shadow = {name: p.detach().to(torch.float32, copy=True) for name, p in self._live.items()}

    @torch.no_grad()
    def update(self, images_seen: int, batch: int) -> None:
        """After the step that took the count to `images_seen` with `batch` images."""
        half_life = min(self.half_life_images, self.ramp * images_seen)
        keep = 0.5 ** (batch / max(half_life, 1e-8))
        shadows = list(self._shadow.values())
        torch._foreach_lerp_(shadows, [p.detach().float() for p in self._live.values()], 1 - keep)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the module holds the averaged weights; after, exactly the trained ones again."""
        kept = {name: p.detach().clone() for name, p in self._live.items()}
        self._copy(self._shadow)
        try:
            yield
        finally:
            self._copy(kept)

    @torch.no_grad()
    def _copy(self, source: Mapping[str, Tensor]) -> None:
        for name, p in self._live.items():
            p.copy_(source[name])

    def state_dict(self) -> dict[str, Tensor]:
        return dict(self._shadow)

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        if set(state) != set(self._shadow):
            raise ValueError(f"average of other parameters: {sorted(set(state) ^ set(self._shadow))[:4]}")
        for name, shadow in self._shadow.items():
            shadow.copy_(state[name])

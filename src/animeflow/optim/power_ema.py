"""Averages of the weights whose width is a share of the run so far. Knows parameters and numbers; knows no loop and no disk.

After Karras et al. (arXiv 2312.02696, section 3): the average at time T weighs the weights of time t by t^gamma, so it forgets the
random start by itself and needs no length set beforehand. Time is images seen, so neither the batch nor the number of processes
changes it. Two such averages, kept now and then, give every other one after the run: see `posthoc`.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from ..core.errors import ConfigError, DataError

WIDEST = 12**-0.5  # sigma_rel at gamma = 0, where all weights of the run count alike: 0.2887


def sigma_rel_of(gamma: float) -> float:
    """Standard deviation of the profile t^gamma on [0, 1], which is the width as a share of the run."""
    return math.sqrt((gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3)))


def gamma_of(sigma_rel: float) -> float:
    """Inverse of `sigma_rel_of` for gamma >= 0. Raises ConfigError for a width that no such profile has."""
    if not 0.005 <= sigma_rel <= WIDEST:
        raise ConfigError(
            f"width {sigma_rel:g} of an average is not between 0.005 and {WIDEST:.4f}",
            where="sigma_rel",
            why=f"at {WIDEST:.4f} all weights of the run count alike; below 0.005 it is nearly the last weights themselves",
            do="0.05 and 0.10 are usual",
        )
    # With g = gamma + 2:  g^3 + g^2 - g / s^2 + 1 / s^2 = 0. Newton's steps from above the largest root fall onto it.
    inverse = sigma_rel**-2
    g = math.sqrt(inverse) + 1
    for _ in range(100):
        step = (g**3 + g**2 - inverse * g + inverse) / (3 * g**2 + 2 * g - inverse)
        g -= step
        if abs(step) < 1e-14 * g:
            break
    return max(g - 2, 0.0)


def group_name(sigma_rel: float) -> str:
    """What the average of this width is called in checkpoints and snapshots: `ema-0.050`."""
    return f"ema-{sigma_rel:.3f}"


def keep_share(gamma: float, images_seen: int, batch: int) -> float:
    """How much of an average stays in the step that took the count to `images_seen` with `batch` images."""
    before = images_seen - batch
    return (before / images_seen) ** (gamma + 1) if before > 0 else 0.0


class PowerEMA:
    """Float32 averages of every trainable parameter, one per width. Build it after the learner got its final device and sharding:
    the averages of a sharded parameter are sharded like it."""

    def __init__(self, module: nn.Module, *, sigma_rels: Sequence[float]) -> None:
        self.sigma_rels = tuple(float(width) for width in sigma_rels)
        self.gammas = tuple(gamma_of(width) for width in self.sigma_rels)
        names = [group_name(width) for width in self.sigma_rels]
        if not names or len(set(names)) < len(names):
            raise ConfigError(
                f"averages of the widths {list(self.sigma_rels)} cannot be told apart",
                where="train.ema.sigma_rels",
                do="give one or more widths that differ in the first three decimals, such as 0.05 and 0.10",
            )
        self._module = module
        self._live = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self._groups = {
            name: {key: p.detach().to(torch.float32, copy=True) for key, p in self._live.items()} for name in names
        }

    @torch.no_grad()
    def update(self, images_seen: int, batch: int) -> None:
        """After the step that took the count to `images_seen` with `batch` images. Nothing here waits for the device."""
        live = [p.detach().float() for p in self._live.values()]
        for gamma, group in zip(self.gammas, self._groups.values(), strict=True):
            torch._foreach_lerp_(list(group.values()), live, 1 - keep_share(gamma, images_seen, batch))

    def group(self, sigma_rel: float) -> dict[str, Tensor]:
        """The average of this width itself, by parameter name: not a copy."""
        name = group_name(sigma_rel)
        if name not in self._groups:
            raise ConfigError(
                f"there is no average of the width {sigma_rel:g}",
                where="train.ema",
                do=f"use one of {', '.join(f'{width:g}' for width in self.sigma_rels)}",
            )
        return dict(self._groups[name])

    @contextlib.contextmanager
    def applied(self, sigma_rel: float) -> Iterator[None]:
        """Inside, the module holds the averaged weights; after, exactly the trained ones again."""
        average = self.group(sigma_rel)
        self._free_gathered()
        kept = {name: p.detach().clone() for name, p in self._live.items()}
        try:
            self._copy(average)
            yield
        finally:
            self._free_gathered()
            self._copy(kept)

    def _free_gathered(self) -> None:
        """A sharded module may still hold the whole weights of its last forward pass, and would go on computing with them."""
        for part in self._module.modules():
            if isinstance(part, FSDPModule):
                part.reshard()

    @torch.no_grad()
    def _copy(self, source: Mapping[str, Tensor]) -> None:
        for name, p in self._live.items():
            p.copy_(source[name])

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        """The averages themselves, by group name and parameter name."""
        return {name: dict(group) for name, group in self._groups.items()}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Copy in what `state_dict` gave. Groups of other names are passed over, so a checkpoint's tensors can be given whole.

        Raises:
            DataError: an average is missing, or is of other parameters; nothing has been loaded then."""
        for name, group in self._groups.items():
            if name not in state:
                there = ", ".join(sorted(key for key in state if key.startswith("ema"))) or "none"
                raise DataError(
                    f"there is no average '{name}' in this checkpoint",
                    why=f"it holds {there}",
                    do="set train.ema.sigma_rels to the widths of the run",
                )
            different = sorted(set(state[name]) ^ set(group))
            if different:
                raise DataError(
                    f"the average '{name}' is of other parameters: {len(different)} differ, {different[0]} first",
                    do="let the same parts train as when the run began",
                )
        for name, group in self._groups.items():
            for key, average in group.items():
                average.copy_(state[name][key])

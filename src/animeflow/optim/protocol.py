"""What a kind of optimizer offers to the loop, and what it asks of the learner. Knows no kind and no loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import nn


@runtime_checkable
class Optim(Protocol):
    """Settings of an optimizer, which `build` makes over a learner that has its final device and sharding."""

    @property
    def lr(self) -> float:
        """Peak learning rate; the schedule multiplies it."""

    @property
    def rates(self) -> Mapping[str, float]:
        """Peak learning rates of parts; see `groups.parameter_groups`."""

    @property
    def lora_plus(self) -> float:
        """How many times its part's rate the up matrices of a LoRA have; see `groups.parameter_groups`."""

    def values(self, optimizer: torch.optim.Optimizer) -> Mapping[str, float]:
        """What a log shows of an optimizer of this kind besides the rates: numbers that the host has, by names with `optim/`."""

    def build(self, module: nn.Module) -> torch.optim.Optimizer:
        """Its groups hold `part`, `up` and `peak_lr`; and under `numbers`, if there are any, the names of entries that are state,
        not settings. It leaves a step out, weights, moments and counters untouched, where its attribute `found_inf` is a tensor on
        the device that holds 1, so that nobody has to wait for the device to know."""


class HasBlocks(Protocol):
    """A learner whose transformer blocks can be asked for, in order."""

    def blocks(self) -> Sequence[nn.Module]: ...

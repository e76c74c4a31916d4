"""What is done to a learner so that it is fast, in the order that works: 8 bits, activations, compilation; then it is shared
between processes. Knows settings and blocks; knows no loop."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from ..model.activation import keep_activations
from ..model.attention_kernel import choose
from ..model.attention_switch import Kernel
from ..model.compiled import CompiledBlocks, compile_blocks, explained
from ..model.routing import Route, route_tokens
from ..model.work import AttentionCall
from .settings import Settings

log = logging.getLogger(__name__)


class Speed:
    """The choices of a run.

    Args:
        calls: the run's largest shape of attention, on which the kernels that are there are tried; none leaves torch alone.
        also: those of its other buckets, for which the kernel must be right too.
        batch: pictures of a micro-batch.
        first: what process 0 says, on all of them.
    Raises:
        ConfigError: what is asked for is not there, or only a kernel that would be slow without a word.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        calls: Sequence[AttentionCall] = (),
        also: Sequence[AttentionCall] = (),
        batch: int = 1,
        device: torch.device,
        first: Callable[[str | None], str | None] = lambda name: name,
    ) -> None:
        self.settings, self.device = settings, device
        dtype = torch.bfloat16 if settings.precision == "bf16" else torch.float32
        self.kernel: Kernel | None = None
        self.compiled: CompiledBlocks | None = None
        self.eight_bit, self._warm = 0, False
        self._route: Route | None = None
        if not calls:
            return
        asked: dict[str, Any] = {"device": device, "dtype": dtype, "calls": calls, "also": also, "batch": batch}
        if settings.attention == "auto" and device.type == "cuda":
            # Kernels that are equally fast would be ranked by luck, and every process has to take the same one.
            mine = choose("auto", **asked)
            name = first(mine.name)
            self.kernel = mine if name == mine.name else choose(str(name), **asked)
        else:
            self.kernel = choose(settings.attention, **asked)

    def prepare(self, learner: nn.Module) -> None:
        """In place, on a learner that is on its device and not yet shared."""
        routing = self.settings.routing
        if routing.share:
            self._route = Route(routing.share, first=routing.first, last=routing.last)
            route_tokens(learner, self._route)
        if self.settings.fp8:
            from ..model.eight_bit import use_eight_bits

            self.eight_bit = len(use_eight_bits(learner, device=self.device))
        if self.settings.activation_memory != "none":
            keep_activations(learner, self.settings.activation_memory, budget=self.settings.activation_budget)
        if self.settings.compile:
            self.compiled = compile_blocks(learner)

    def before_step(self, learner: nn.Module, images_seen: int) -> None:
        """What depends on how far the run is: whether tokens pass blocks by. Blocks that are compiled keep their graphs."""
        if self._route is not None:
            on = self.settings.routing.on(images_seen, images=self.settings.images)
            route_tokens(learner, self._route if on else None)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Around the whole loop: attention by the chosen kernel, and errors of the compiler with what to do about them."""
        with self.kernel.applied() if self.kernel else contextlib.nullcontext():
            try:
                yield
            except Exception as error:
                known = explained(error) if self.compiled else None
                if known is None:
                    raise
                raise known from error

    def warmed_up(self) -> None:
        """At every log line; the first one ends the warm-up, and a graph that is made after it is one too late."""
        if self.compiled and not self._warm:
            self.compiled.warmed_up()
        self._warm = True

    def values(self) -> dict[str, float]:
        """For log lines: graphs since the warm-up."""
        return {"compile/recompiles": float(self.compiled.recompiles)} if self.compiled and self._warm else {}

    def lines(self) -> list[str]:
        """What was chosen, for people."""
        chosen = self.kernel.lines() if self.kernel else []
        if self.settings.activation_memory != "none":
            chosen.append(f"activations: {self.settings.activation_memory}")
        if self._route is not None:
            routing = self.settings.routing
            chosen.append(
                f"routing: {routing.share:g} of the picture's tokens pass blocks {routing.first} to {routing.last} by, until the "
                f"last {routing.dense_share:g} of the run; FLOP are counted as if none did"
            )
        if self.compiled:
            chosen.append(f"compiled: {self.compiled.blocks} blocks, one by one; the first steps wait for the compiler")
        if self.eight_bit:
            chosen.append(f"8 bits: {self.eight_bit} linear layers")
        return chosen

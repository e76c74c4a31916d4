"""How long a process computes by itself, between two looks. Knows clocks, of the host and of a GPU."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import torch


class Stopwatch:
    """Adds up what happens inside `running`, on a GPU without waiting for it.

    Meant for what a process does alone: in a step all of them meet at the exchange of gradients, so whole steps are equally long
    everywhere, whoever was slow.
    """

    def __init__(self, device: torch.device, *, on: bool = True) -> None:
        self._on, self._cuda, self._seconds = on, device.type == "cuda", 0.0
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        if not self._on:
            yield
        elif self._cuda:
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            yield
            end.record()
            self._events.append((begin, end))
        else:
            begin_s = time.perf_counter()
            yield
            self._seconds += time.perf_counter() - begin_s

    def seconds(self) -> float:
        """Since the last look. On a GPU it waits for it."""
        for begin, end in self._events:
            end.synchronize()
            self._seconds += begin.elapsed_time(end) / 1000
        self._events = []
        seconds, self._seconds = self._seconds, 0.0
        return seconds

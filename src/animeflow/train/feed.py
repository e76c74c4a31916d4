"""Steps of data made ready ahead of the loop: drawn for, page-locked, on their way to the device. Knows threads and streams; knows
no model.

What is ready is never ahead of what is saved: every step carries the place in the order of data that it ends at.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import torch

from ..core.batch import Batch


class Steps(Protocol):
    """The order of data: optimizer steps as lists of micro-batches of this process, and a place in it."""

    batch: int  # images of one optimizer step over all processes

    def __iter__(self) -> Any: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...

    def close(self) -> None:
        """Nothing more will be asked for: a reader that waits for somebody gives up."""

    def values(self) -> dict[str, float]:
        """What reading says of itself, for log lines."""

    def components(self, uids: np.ndarray) -> Sequence[str | None] | None:
        """The part of the mixture that each picture is of, by name; None without a mixture."""


@dataclass(frozen=True)
class Fed:
    """One optimizer step on the device.

    Attributes:
        batches: its micro-batches.
        place: `Steps.state_dict()` after it.
        wait_s: how long the loop waited for it.
    """

    batches: list[Batch]
    place: dict[str, Any]
    wait_s: float

    @property
    def images(self) -> int:
        """Over all processes."""
        return self.batches[0].global_count

    @property
    def step(self) -> int:
        return self.batches[0].step


class Feed:
    """Iterates `steps` with a thread that works `depth` steps ahead. Use it as a context."""

    def __init__(
        self, steps: Steps, prepare: Callable[[Batch], Batch], device: torch.device, *, depth: int = 1
    ) -> None:
        self._steps, self._prepare, self._device = steps, prepare, device
        self._ready: queue.Queue[Any] = queue.Queue(depth)
        self._stop = threading.Event()
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._thread = threading.Thread(target=self._work, name="feed", daemon=True)

    def __enter__(self) -> Feed:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        while self._thread.is_alive():  # make room until the thread notices
            with contextlib.suppress(queue.Empty):
                self._ready.get_nowait()
            self._thread.join(timeout=0.005)

    def next(self) -> Fed:
        """The next step. Raises what the reading of it raised."""
        started = time.perf_counter()
        item = self._ready.get()
        if isinstance(item, BaseException):
            raise item
        batches, place, copied = item
        if copied is not None:
            here = torch.cuda.current_stream(self._device)
            here.wait_event(copied)
            for tensor in _tensors(
                batches
            ):  # made on another stream: its memory may not be given away while ours reads it
                tensor.record_stream(here)
        return Fed(batches, place, time.perf_counter() - started)

    def _work(self) -> None:
        iterator = iter(self._steps)
        try:
            while not self._stop.is_set():
                micro_batches = next(iterator)
                place = self._steps.state_dict()
                self._ready.put(self._moved([self._prepare(batch) for batch in micro_batches], place))
        except BaseException as error:
            self._ready.put(error)
        finally:
            close = getattr(iterator, "close", None)
            if close:
                close()

    def _moved(self, batches: list[Batch], place: dict[str, Any]) -> tuple[list[Batch], dict[str, Any], Any]:
        if self._stream is None:
            return [batch.to(self._device) for batch in batches], place, None
        with torch.cuda.stream(self._stream):
            moved = [batch.pinned().to(self._device) for batch in batches]
            return moved, place, self._stream.record_event()


def _tensors(batches: Iterable[Batch]) -> Iterable[torch.Tensor]:
    for batch in batches:
        yield batch.latents
        yield from batch.conditioning.values()
        yield from batch.draws.values()
        yield from (each for each in (batch.masks, batch.weights, batch.components) if each is not None)
        if batch.prior is not None:
            yield from batch.prior.values()

"""The planned order as micro-batches of one process, prepared ahead in a thread. Knows plan and assembler; knows no recipe.

The queue holds what the plan's state was after each step, and the loader's state is that of the last step handed out: what was
prepared ahead is never in it, so a resume repeats nothing and skips nothing.
"""

from __future__ import annotations

import contextlib
import copy
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ..core.batch import Batch
from .assemble import Assembler
from .exposure import Exposures
from .plan import Chunk, Plan, accumulation

_Step = tuple[list[Batch], dict[str, Any]]


class Loader:
    """Optimizer steps of one process, each a list of micro-batches.

    Args:
        plan: the order of data, equal on every process. The loader works on a copy.
        assemble: turns uids and visits into a batch.
        micro_batch: images of one forward pass on one process.
        rank, world: this process and how many there are.
        prefetch: steps prepared ahead; 0 prepares each when it is asked for, in the caller's thread.
        threads: that read entries of a batch side by side.
        pin: put batches into page-locked memory, for copies to a GPU that overlap with work.
        length: of the text that a picture has at a visit, `Assembler.text_length`: every chunk is sorted by it before it is cut,
            so that few micro-batches hold texts of two lengths and need a mask. It must be a function of picture and visit alone,
            equal on every process. A step holds the same pictures, noise and t with it as without; sums run in another order.
        shown: what batches are to say of their pictures' components and weights; None says nothing.
        ahead: told of every (picture, visit) of a step of this process before its first batch is made, `Assembler.encode_ahead`.
    Raises:
        ConfigError: a chunk of the plan cannot be cut into micro-batches for so many processes.
    """

    def __init__(
        self,
        plan: Plan,
        assemble: Assembler,
        *,
        micro_batch: int,
        rank: int = 0,
        world: int = 1,
        prefetch: int = 2,
        threads: int = 2,
        pin: bool = False,
        length: Callable[[int, int], int] | None = None,
        ahead: Callable[[Sequence[tuple[int, int]], Executor | None], None] | None = None,
        shown: Exposures | None = None,
    ) -> None:
        self.accumulation = accumulation(plan.chunk, world=world, micro_batch=micro_batch) * plan.chunks_per_step
        self.batch, self.micro_batch, self.rank, self.world = plan.batch, micro_batch, rank, world
        self._plan, self._assemble = copy.deepcopy(plan), assemble
        self._prefetch, self._threads, self._pin = prefetch, threads, pin
        self._length, self._ahead, self._shown = length, ahead, shown
        self._state = self._plan.state_dict()
        self._wait_s, self._since = 0.0, time.perf_counter()

    @property
    def images_seen(self) -> int:
        """Over all processes, up to the last step handed out."""
        return int(self._state["step"]) * self.batch

    def state_dict(self) -> dict[str, Any]:
        """The plan's place after the last step that was handed out. JSON, equal on every process."""
        return copy.deepcopy(self._state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to a place; iterators that are already running keep theirs. Raises ConfigError when it is of another order."""
        self._plan.load_state_dict(state)
        self._state = self._plan.state_dict()

    def close(self) -> None:
        """Nothing more will be asked for: whoever waits for a store that does not answer gives up at once."""
        self._assemble.index.close()

    def components(self, uids: np.ndarray) -> list[str | None] | None:
        """The part of the mixture that each picture is of, None for one that is no longer in the set; None without a mixture."""
        return None if self._shown is None or not self._shown.names else self._shown.named(uids)

    def values(self) -> dict[str, float]:
        """What reading took so far, for log lines: empty where all lies on this machine and nothing was replaced."""
        traffic, broken = self._assemble.index.place.traffic, getattr(self._assemble, "broken", 0)
        values = {"data/replaced_images": float(broken)} if broken else {}
        if traffic.requests:
            values |= {"data/requests": float(traffic.requests), "data/retries": float(traffic.retries)}
            values["data/seconds_waited_for_retries"] = traffic.seconds_waited
        return values

    def wait_share(self) -> float:
        """Share of the time since the last call that was spent waiting for data."""
        now = time.perf_counter()
        share = self._wait_s / max(now - self._since, 1e-9)
        self._wait_s, self._since = 0.0, now
        return share

    def __iter__(self) -> Iterator[list[Batch]]:
        """Endless. Goes on after the last step that was handed out, also when an earlier iterator was left half-way."""
        plan = copy.deepcopy(self._plan)
        plan.load_state_dict(self._state)
        source = _in_thread(self._steps(plan), self._prefetch) if self._prefetch else self._steps(plan)
        try:
            while True:
                started = time.perf_counter()
                micro_batches, state = next(source)
                self._wait_s += time.perf_counter() - started
                self._state = state
                yield micro_batches
        finally:
            source.close()

    def _steps(self, plan: Plan) -> Generator[_Step, None, None]:
        with ThreadPoolExecutor(self._threads) if self._threads > 1 else contextlib.nullcontext() as pool:
            while True:
                chunks = [self._grouped(chunk) for chunk in plan.next_step()]
                parts = [part for chunk in chunks for part in chunk.part(self.rank, self.world, self.micro_batch)]
                if self._ahead:
                    self._ahead([image for p in parts for image in zip(p.uids, p.visits, strict=True)], pool)
                batches = [self._assemble.batch(p.uids, p.visits, global_count=plan.batch, pool=pool) for p in parts]
                batches = [
                    replace(batch, step=plan.step - 1, places=part.places, **self._said_of(batch.uids))
                    for batch, part in zip(batches, parts, strict=True)
                ]
                yield [batch.pinned() for batch in batches] if self._pin else batches, plan.state_dict()

    def _said_of(self, uids: Sequence[int]) -> dict[str, Any]:
        """Of the pictures that a batch holds, which may be others than were planned where some are broken."""
        if self._shown is None:
            return {}
        rows = self._shown.rows(uids)
        said: dict[str, Any] = {}
        if self._shown.loss is not None:
            said["weights"] = torch.from_numpy(self._shown.loss[rows])
        if self._shown.names:
            said |= {"components": torch.from_numpy(self._shown.component[rows]), "names": self._shown.names}
        return said

    def _grouped(self, chunk: Chunk) -> Chunk:
        if self._length is None:
            return chunk
        return chunk.grouped([self._length(*image) for image in zip(chunk.uids, chunk.visits, strict=True)])


def fixed_batches(assemble: Assembler, split: str, *, images: int, micro_batch: int) -> list[Batch]:
    """The same batches every time: the first `images` of a split by uid, at visit 0, the caption that visit gives.

    For a validation loss: give an assembler without dropout, and equal noise comes from equal uids and visits.
    """
    buckets = assemble.index.buckets(split)
    chosen = set(sorted(uid for uids in buckets.values() for uid in uids)[:images])
    batches = []
    for _, uids in sorted(buckets.items()):
        mine = [uid for uid in sorted(uids) if uid in chosen]
        for start in range(0, len(mine), micro_batch):
            part = mine[start : start + micro_batch]
            batches.append(assemble.batch(part, [0] * len(part), global_count=len(chosen)))
    return batches


def _in_thread(source: Generator[_Step, None, None], depth: int) -> Generator[_Step, None, None]:
    """The items of `source`, made by a thread up to `depth` ahead. What `source` raises is raised where its item is due."""
    items: queue.Queue[_Step | BaseException] = queue.Queue(maxsize=depth)
    stopped = threading.Event()

    def run() -> None:
        try:
            for item in source:
                items.put(item)
                if stopped.is_set():
                    break
        except BaseException as error:
            items.put(error)
        finally:
            source.close()

    thread = threading.Thread(target=run, name="loader", daemon=True)
    thread.start()
    try:
        while True:
            item = items.get()
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        while thread.is_alive():  # make room until the thread notices
            with contextlib.suppress(queue.Empty):
                items.get_nowait()
            thread.join(timeout=0.01)

"""The order of data as a pure function: stride scheduling over buckets. Knows uids and bucket names; knows no file and no tensor.

Within a bucket the order is an endless row of permutations, one per epoch of that bucket, so nothing is dropped, nothing is
padded and visits never differ by more than one. A picture with r repeats comes r times in each, once in every r-th part of it; of
exposure 0.4 it comes in two of five, by `Turns`.
Between buckets the next chunk goes to the smallest virtual finish time
(images used + jitter * chunk) / images of the bucket, so every bucket keeps its share. The world size never enters: all
processes plan the same chunks and take slices of them. The whole state is a few integers.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core import seed as keyed
from ..core.errors import ConfigError
from ..core.files import sha256
from .turns import SHIFT, Turns

log = logging.getLogger(__name__)

VERSION = 1


@dataclass(frozen=True)
class Chunk:
    """Images of one bucket that belong to one optimizer step.

    Attributes:
        bucket: name, e.g. "1024x1024".
        uids: identity of every image, in order.
        visits: how often each has been seen before (0 on the first visit).
        places: place of each among all images of the optimizer step.
    """

    bucket: str
    uids: tuple[int, ...]
    visits: tuple[int, ...]
    places: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.uids)

    def grouped(self, lengths: Sequence[int]) -> Chunk:
        """The same pictures, short ones first, else as they were. Parts of it are mostly of one length: every process has at most
        one mixed micro-batch where one length ends and the next begins, and at the same micro-batch all have nearly the same."""
        order = sorted(range(len(self)), key=lengths.__getitem__)
        uids, visits, places = ([values[i] for i in order] for values in (self.uids, self.visits, self.places))
        return Chunk(self.bucket, tuple(uids), tuple(visits), tuple(places))

    def part(self, rank: int, world: int, micro_batch: int) -> Iterator[Chunk]:
        """The micro-batches of one process: its slice `[rank::world]`, cut into pieces of `micro_batch`."""
        for start in range(rank, len(self.uids), world * micro_batch):
            cut = slice(start, start + world * micro_batch, world)
            yield Chunk(self.bucket, self.uids[cut], self.visits[cut], self.places[cut])


def accumulation(chunk: int, *, world: int, micro_batch: int) -> int:
    """Micro-batches per process and chunk. Raises ConfigError, naming the legal values, where the chunk cannot be cut evenly."""
    if world > 0 and micro_batch > 0 and chunk % (world * micro_batch) == 0:
        return chunk // (world * micro_batch)
    micro = [m for m in _divisors(chunk) if m * max(world, 1) <= chunk and chunk % (m * max(world, 1)) == 0]
    worlds = [
        w for w in _divisors(chunk) if w * max(micro_batch, 1) <= chunk and chunk % (w * max(micro_batch, 1)) == 0
    ]
    raise ConfigError(
        f"{chunk} images of a chunk cannot be cut into micro-batches of {micro_batch} on {world} processes",
        why="every process takes equally many images of every chunk, so that all make the same number of steps",
        do=f"with {world} processes use a micro-batch of {_either(micro)}; "
        f"with micro-batches of {micro_batch} use {_either(worlds)} processes; or change the batch",
    )


def _divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]


def _either(numbers: Sequence[int]) -> str:
    return " or ".join(map(str, numbers)) if numbers else "(none is possible)"


class _Lane:
    """One bucket: how often its pictures come, and of the epoch it is in a slot for each visit and the order of the slots."""

    def __init__(self, name: str, turns: Turns, seed: int) -> None:
        self.name, self.turns, self.seed = name, turns, seed
        self.uids, self.expected = turns.uids, turns.expected
        self._epoch = self._begin = self._end = -1
        self._before = self._owner = self._turn = self._order = np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        """Images of one epoch: expected ones, where epochs differ."""
        return round(self.expected)

    def take(self, start: int, count: int) -> tuple[list[int], list[int]]:
        """uids and visits of positions `start .. start + count` of the endless row."""
        uids: list[int] = []
        visits: list[int] = []
        while count:
            self._go_to(start)
            part = self._order[start - self._begin : start - self._begin + count]
            pictures = self._owner[part]
            uids += self.uids[pictures].tolist()
            visits += (self._before[pictures] + self._turn[part]).tolist()
            start, count = start + len(part), count - len(part)
        return uids, visits

    def _go_to(self, position: int) -> None:
        """Make the epoch that holds it the present one."""
        if self._begin <= position < self._end:
            return
        self._epoch, self._begin = self.turns.epoch_at(position)
        self._before = self.turns.before(self._epoch)
        times = self.turns.before(self._epoch + 1) - self._before
        self._owner = np.repeat(np.arange(len(times)), times)  # slot -> picture
        first = np.cumsum(times) - times
        self._turn = np.arange(len(self._owner)) - first[self._owner]  # slot -> which of its picture's it is
        order = keyed.permutation(len(self._owner), self.seed, "order", self.name, self._epoch)
        self._order, self._end = self._spread(order, times), self._begin + len(order)

    def _spread(self, order: np.ndarray, times: np.ndarray) -> np.ndarray:
        """The k-th slot of a picture with r of them moves into the k-th r-th part of the epoch, to the place there that the
        permutation gave it in the whole: so its visits follow one another, and twice in one step is rare."""
        if times.max() <= 1:
            return order
        place = np.empty(len(order))
        place[order] = (np.arange(len(order)) + 0.5) / len(order)
        return np.argsort((self._turn + place) / times[self._owner], kind="stable")


class Plan:
    """An endless, exactly resumable order of optimizer steps.

    Args:
        buckets: bucket name -> uids of its images. The order of the uids does not matter.
        seed: of the order. Two plans of the same seed, buckets and batch are the same plan.
        batch: images per optimizer step over all processes and accumulation.
        chunks_per_step: a step is cut into this many chunks, each of one bucket of its own; more of them mix aspect ratios
            inside a step. Fixed by the config, never by the number of processes.
        repeats: uid -> how often that picture comes in an epoch, a whole number; 1 for those left out.
        turns: how often every picture comes, in place of `repeats`; one that they do not name, or that never comes, is left out.
    """

    def __init__(
        self,
        buckets: Mapping[str, Sequence[int]],
        *,
        seed: int,
        batch: int,
        chunks_per_step: int = 1,
        repeats: Mapping[int, int] | None = None,
        turns: Turns | None = None,
    ) -> None:
        if chunks_per_step < 1 or batch < 1 or batch % chunks_per_step:
            raise ConfigError(
                f"a batch of {batch} images cannot be cut into {chunks_per_step} equal chunks",
                do=f"use a number of chunks per step that divides the batch: {_either(_divisors(max(batch, 1)))}",
            )
        self.seed, self.batch, self.chunks_per_step = seed, batch, chunks_per_step
        self.chunk = batch // chunks_per_step
        parts = {name: turns.select(uids) if turns else _whole(uids, repeats or {}) for name, uids in buckets.items()}
        self._lanes = {name: _Lane(name, part, seed) for name, part in sorted(parts.items()) if len(part)}
        if not self._lanes:
            raise ConfigError(
                "there is no image to train on", do="check split and filter, then run catalogue and shard again"
            )
        self.data = _data_hash(self._lanes)
        self._used = dict.fromkeys(self._lanes, 0)
        self._step = 0
        self._heap = self._queue()
        small = {name: len(lane.uids) for name, lane in self._lanes.items() if len(lane.uids) < self.chunk}
        if small:
            log.warning(
                "buckets with fewer images than the %d of a chunk show a picture twice within one: %s; "
                "use fewer buckets or more chunks per step",
                self.chunk, ", ".join(f"{name} ({count})" for name, count in small.items()),
            )  # fmt: skip

    def __len__(self) -> int:
        """Images of one epoch, repeats counted; the expected number, where epochs differ."""
        return round(sum(lane.expected for lane in self._lanes.values()))

    @property
    def step(self) -> int:
        return self._step

    @property
    def images_seen(self) -> int:
        return self._step * self.batch

    @property
    def sizes(self) -> dict[str, int]:
        """Images per bucket in an epoch."""
        return {name: len(lane) for name, lane in self._lanes.items()}

    def next_step(self) -> list[Chunk]:
        """The chunks of the next optimizer step, and move on."""
        self._step += 1
        return [self._next_chunk(number) for number in range(self.chunks_per_step)]

    def _next_chunk(self, number: int) -> Chunk:
        _, name = heapq.heappop(self._heap)
        uids, visits = self._lanes[name].take(self._used[name], self.chunk)
        self._used[name] += self.chunk
        heapq.heappush(self._heap, (self._finish(name), name))
        places = range(number * self.chunk, (number + 1) * self.chunk)
        return Chunk(name, tuple(uids), tuple(visits), tuple(places))

    def _finish(self, name: str) -> float:
        """Virtual finish time of a bucket's next chunk, in epochs of it. Jitter keeps equal buckets from marching in step."""
        used = self._used[name]
        return (used + keyed.uniform(self.seed, "between", name, used) * self.chunk) / self._lanes[name].expected

    def _queue(self) -> list[tuple[float, str]]:
        queue = [(self._finish(name), name) for name in self._lanes]
        heapq.heapify(queue)
        return queue

    # -- state ---------------------------------------------------------------------------------------------------------

    def _identity(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "seed": self.seed,
            "batch": self.batch,
            "chunks_per_step": self.chunks_per_step,
            "data": self.data,
        }

    def state_dict(self) -> dict[str, Any]:
        """The place in the order: JSON, about a line per bucket, equal on every process."""
        return {**self._identity(), "step": self._step, "used": dict(self._used)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to a place. Raises ConfigError when the state is of another order (seed, batch or pictures differ)."""
        different = [name for name, value in self._identity().items() if state.get(name) != value]
        if different:
            ours = self._identity()
            raise ConfigError(
                "the saved place is of another order of data: "
                + "; ".join(f"{name} was {state.get(name)!r}, is {ours[name]!r}" for name in different),
                why="going on would repeat some pictures and leave out others",
                do="set the values of the saved run, or start a run of another name from its weights",
            )
        self._used = {name: int(state["used"][name]) for name in self._lanes}
        self._step = int(state["step"])
        self._heap = self._queue()


def _whole(uids: Sequence[int], repeats: Mapping[int, int]) -> Turns:
    ordered = np.sort(np.asarray(uids, dtype=np.int64))
    times = [repeats.get(uid, 1) for uid in ordered.tolist()] if repeats else np.ones(len(ordered))
    return Turns.whole(ordered, np.array(times, dtype=np.int64))


def _data_hash(lanes: Mapping[str, _Lane]) -> str:
    """Without repeats it is what it was before there were any, and with whole ones what it was before there were others."""
    parts = b"".join(name.encode() + b"\0" + lane.uids.astype("<i8").tobytes() for name, lane in lanes.items())
    turns = [lane.turns for lane in lanes.values()]
    if not all(turn.is_whole for turn in turns):
        parts += b"\0turns" + b"".join((np.stack([t.steps, t.phases])).astype("<i8").tobytes() for t in turns)
    elif any(len(lane) != len(lane.uids) for lane in lanes.values()):
        parts += b"\0repeats" + b"".join((t.steps >> SHIFT).astype("<i8").tobytes() for t in turns)
    return sha256(parts)[:32]

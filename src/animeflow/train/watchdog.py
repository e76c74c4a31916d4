"""Tells when a step does not end: every thread's stack into a file, one warning that names it. Knows time and threads; no tensor.

It runs in a thread, so it works while the main thread waits inside a collective or a read. Where that call also keeps Python's
lock, no thread of Python's runs at all; a timer of `faulthandler`, which is no Python thread, then writes the stacks.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import logging
import os
import statistics
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from . import heartbeat
from .heartbeat import Heartbeat

log = logging.getLogger(__name__)

FLOOR_SECONDS = 30.0  # the median alone never calls a step late before this
MEDIANS = 10.0
KNOWN_STEPS = 8  # fewer say nothing about the median: the first ones compile


class Watchdog:
    """Watches that `beat` is called; a context manager.

    A step is late after `seconds`, or after ten times the median step where that is sooner, but then never before half a
    minute. What takes its time by nature (the first steps, samples, a checkpoint) has `seconds`, or those of its `phase`.

    Args:
        folder: of the run: `stacks/` and `heartbeat/` are written there.
        rank, processes: of this process, and how many there are.
        seconds: see above; 0 watches nothing, but the heartbeat goes on.
        loader: says where the loader stands, for the file. Called from the watchdog's thread.
    """

    def __init__(
        self,
        folder: Path,
        *,
        rank: int,
        seconds: float,
        processes: int = 1,
        loader: Callable[[], str] | None = None,
        every: float = heartbeat.EVERY_SECONDS,
    ) -> None:
        self.path = folder / "stacks" / f"rank-{rank}.txt"
        self.stalls = 0
        self._folder, self._rank, self._processes, self._seconds, self._loader = (
            folder,
            rank,
            processes,
            seconds,
            loader,
        )
        self._step = self._images = 0
        self._state = "step"
        self._limit: float | None = None  # of the phase that we are in
        self._since = time.monotonic()
        self._began: float | None = None  # when the present step began, and the time in it that was spent in phases
        self._phased = 0.0
        self._steps: deque[float] = deque(maxlen=64)
        self._told: float | None = None  # the `_since` of the stall that was told
        self._end = threading.Event()
        self._look = max(0.05, min(1.0, seconds / 10)) if seconds > 0 else every
        every = min(every, max(0.2, seconds / 4)) if seconds > 0 else every
        self._heart = Heartbeat(folder, rank=rank, facts=self._facts, every=every)
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._file: io.TextIOWrapper | None = None

    def __enter__(self) -> Watchdog:
        self._since = time.monotonic()
        self._heart.start()
        if self._seconds > 0:
            # Opened now: when the disk or the memory is gone there is no opening it any more.
            with contextlib.suppress(OSError):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = open(self.path, "a")  # closed in __exit__
            self._arm(self._seconds)
            self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._end.set()
        if self._seconds > 0:
            self._thread.join(timeout=5)
            faulthandler.cancel_dump_traceback_later()
            if self._file is not None:
                self._file.close()
            with contextlib.suppress(OSError):
                if self.path.stat().st_size == 0:  # nothing ever stalled
                    self.path.unlink()
                    self.path.parent.rmdir()  # where it is empty
        self._heart.stop("left" if kind is None else "failed")

    # -- said by the loop ----------------------------------------------------------------------------------------------

    def beat(self, step: int, images: int = 0) -> None:
        """A step has ended."""
        now = time.monotonic()
        if self._began is not None:
            self._steps.append(now - self._began - self._phased)
        self._step, self._images, self._since, self._began, self._phased = step, images, now, now, 0.0

    @contextlib.contextmanager
    def phase(self, state: str, *, seconds: float | None = None) -> Iterator[None]:
        """What happens inside is no plain step: it has `seconds` (by default those of the constructor), and its name is in
        the heartbeat and in the file. `inf` is never late."""
        before = self._state, self._limit
        self._limit = self._seconds if seconds is None else seconds
        start = time.monotonic()
        self._state, self._since = state, start
        try:
            yield
        finally:
            self._state, self._limit = before
            self._since = time.monotonic()
            self._phased += self._since - start

    @property
    def limit(self) -> float:
        """Seconds after which the present step or phase is late."""
        if self._limit is not None or len(self._steps) < KNOWN_STEPS:
            return self._seconds if self._limit is None else self._limit
        return min(self._seconds, max(FLOOR_SECONDS, MEDIANS * statistics.median(tuple(self._steps))))

    # -- in the thread -------------------------------------------------------------------------------------------------

    def _facts(self) -> Mapping[str, Any]:
        since = time.monotonic() - self._since
        return {"step": self._step, "images": self._images, "state": self._state, "since": round(since, 3)}

    def _watch(self) -> None:
        last = time.monotonic()
        while not self._end.wait(self._look):
            now = time.monotonic()
            if now - last > max(
                10 * self._look, 2.0
            ):  # this thread slept, so the whole process was stopped: no step's fault
                self._since += now - last
            last = now
            since, limit = self._since, self.limit
            if now - since < limit:
                if self._told is not None and since != self._told:
                    log.warning("rank %d: went on with step %d", self._rank, self._step)
                    self._told = None
                self._arm(limit - (now - since))
            elif since != self._told:
                self._told = since
                faulthandler.cancel_dump_traceback_later()
                self._tell(now - since)

    def _arm(self, seconds: float) -> None:
        """Set faulthandler's timer anew, a little later than ours: it fires only when this thread is kept from looking."""
        faulthandler.cancel_dump_traceback_later()
        if self._file is not None and seconds < threading.TIMEOUT_MAX:
            faulthandler.dump_traceback_later(seconds + 2 + 5 * self._look, file=self._file)

    def _tell(self, seconds: float) -> None:
        self.stalls += 1
        # The warning comes first, and reads no source file: a disk may be what hangs.
        log.warning(
            "rank %d: '%s' after step %d has not ended for %.0f s, the main thread is in %s; all stacks are in %s",
            self._rank, self._state, self._step, seconds, _place(), self.path,
        )  # fmt: skip
        with contextlib.suppress(OSError, ValueError):
            if self._file is not None:
                self._file.write(self._head(seconds) + _stacks() + "\n")
                self._file.flush()
        waited_for = heartbeat.slowest(self._folder, processes=self._processes) if self._processes > 1 else []
        if waited_for:
            log.warning("rank %d: waits for %s", self._rank, "; ".join(waited_for))

    def _head(self, seconds: float) -> str:
        try:
            loader = self._loader() if self._loader else "not known"
        except Exception as error:  # what it looks at changes under it
            loader = f"could not be asked: {error!r}"
        return (
            f"==== {time.strftime('%Y-%m-%d %H:%M:%S %z')} rank {self._rank} of {self._processes}, process {os.getpid()}\n"
            f"in '{self._state}' after step {self._step} ({self._images:,} images) for {seconds:.1f} s\n"
            f"loader: {loader}\n\n"
        )


def _place() -> str:
    """The main thread's innermost place."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    return f"{frame.f_code.co_name} ({frame.f_code.co_filename}:{frame.f_lineno})" if frame else "no known place"


def _stacks() -> str:
    """The stacks of all threads but this one, the main one first."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    main = threading.main_thread().ident
    frames = sorted(sys._current_frames().items(), key=lambda item: item[0] != main)
    return "\n".join(
        f"-- thread {names.get(ident, ident)}\n" + "".join(traceback.format_list(traceback.extract_stack(frame)))
        for ident, frame in frames
        if ident != threading.get_ident()
    )

"""A sign of life of every process, as a small file that the others read. Knows files and clocks; knows no loop and no tensor.

`heartbeat/rank-N.json` says when, at which step and doing what. Where one process waits for another in a collective, none of them
can ask; a file can still be read.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EVERY_SECONDS = 10.0
OLD = 2.5  # rhythms without a word: one missed beat is a slow disk, two and a half are a process that stands still


@dataclass(frozen=True)
class Beat:
    """What one process last said of itself, and how many seconds ago."""

    rank: int
    age: float
    step: int
    images: int
    state: str
    since: float  # seconds that it had been in this step when it said so
    every: float

    @property
    def silent(self) -> bool:
        return self.age > OLD * self.every


class Heartbeat:
    """Writes `folder/heartbeat/rank-N.json` every so many seconds from a thread of its own.

    It is not the watchdog's thread: a file system that hangs must not silence the one who would tell of it.
    """

    def __init__(
        self, folder: Path, *, rank: int, facts: Callable[[], Mapping[str, Any]], every: float = EVERY_SECONDS
    ) -> None:
        self.path = folder / "heartbeat" / f"rank-{rank}.json"
        self._rank, self._facts, self._every = rank, facts, every
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._write_on, name="heartbeat", daemon=True)

    def start(self) -> None:
        self._write("starting")
        self._thread.start()

    def stop(self, state: str = "left") -> None:
        """Say the last word: a process that left is not one that stands still."""
        self._end.set()
        self._thread.join(timeout=self._every)
        self._write(state)

    def _write_on(self) -> None:
        while not self._end.wait(self._every):
            self._write()

    def _write(self, state: str | None = None) -> None:
        line = {"rank": self._rank, "time": time.time(), "every": self._every, **self._facts()}
        if state:
            line["state"] = state
        beside = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        # Renamed but not flushed to disk: a sign of life is worth nothing after a power cut. A full disk is no reason to stop.
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            beside.write_text(json.dumps(line) + "\n")
            os.replace(beside, self.path)


def read(folder: Path, *, processes: int | None = None) -> list[Beat]:
    """The last beat of every rank below `processes`, in the order of ranks; files that are no beat are passed over."""
    now, beats = time.time(), []
    for path in (folder / "heartbeat").glob("rank-*.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            line = json.loads(path.read_text())
            beat = Beat(
                rank=int(line["rank"]),
                age=max(0.0, now - float(line["time"])),
                step=int(line["step"]),
                images=int(line["images"]),
                state=str(line["state"]),
                since=float(line["since"]),
                every=float(line["every"]),
            )
            if processes is None or beat.rank < processes:
                beats.append(beat)
    return sorted(beats, key=lambda beat: beat.rank)


def slowest(folder: Path, *, processes: int | None = None) -> list[str]:
    """The ranks that the others wait for, each with the reason, as text; empty where nothing tells them apart.

    First those that are silent. If all speak, those at the earliest step, where they differ; else those that do something else
    than compute, such as waiting for data.
    """
    beats = [beat for beat in read(folder, processes=processes) if beat.state != "left"]
    silent = [beat for beat in beats if beat.silent]
    if silent:
        return [f"rank {beat.rank} silent for {beat.age:.0f} s (step {beat.step}, {beat.state})" for beat in silent]
    if len({beat.step for beat in beats}) > 1:
        behind = min(beat.step for beat in beats)
        return [f"rank {beat.rank} still at step {behind} ({beat.state})" for beat in beats if beat.step == behind]
    if len({beat.state for beat in beats}) > 1:
        other = [beat for beat in beats if beat.state != "step"]
        return [f"rank {beat.rank} in '{beat.state}' for {beat.since + beat.age:.0f} s" for beat in other]
    return []

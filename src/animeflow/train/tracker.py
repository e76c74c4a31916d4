"""Numbers of a run: `metrics.jsonl` always, wandb when asked. Knows names and floats; knows no loop.

Neither ever harms a run. wandb is spoken to by a thread of its own, which may hang as long as it likes; a full disk is a warning,
and what could not be written is written as soon as it can be.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from ..core import files
from ..core.log import is_main_process

log = logging.getLogger(__name__)
Wandb = Literal["off", "offline", "online"]

START_SECONDS = 20.0  # what wandb gets to begin, and the run waits for it
FINISH_SECONDS = 60.0  # what it gets at the end to send the rest
MOST_LINES = 10_000  # kept for a disk or a service that comes back


class Tracker:
    """Appends one JSON line per call, flushed at once, so that a killed run keeps what it measured.

    Args:
        folder: the run's folder.
        config: shown by wandb.
        wandb: "off", "offline" or "online"; online falls back to offline.
        project, name: for wandb.
        start_seconds, finish_seconds: how long wandb is waited for.
    """

    def __init__(
        self,
        folder: Path,
        *,
        config: Mapping[str, Any] | None = None,
        wandb: Wandb = "off",
        project: str = "animeflow",
        name: str | None = None,
        start_seconds: float = START_SECONDS,
        finish_seconds: float = FINISH_SECONDS,
    ) -> None:
        self.path = folder / "metrics.jsonl"
        self._pending: list[str] = []
        self._wandb: _Speaker | None = None
        if not is_main_process():
            return
        with contextlib.suppress(OSError):  # a full or read-only disk is told at the first line
            folder.mkdir(parents=True, exist_ok=True)
        if wandb != "off":
            options = {
                "dir": str(folder),
                "config": dict(config or {}),
                "project": project,
                "name": name or folder.name,
            }
            self._wandb = _Speaker(
                options | {"id": folder.name}, mode=wandb, start_seconds=start_seconds, finish_seconds=finish_seconds
            )

    def rewind(self, images: int) -> None:
        """Forget lines past `images`: they belong to work that was lost and will be done again."""
        if not is_main_process():
            return
        self._pending = [line for line in self._pending if _images(line) <= images]
        if not self.path.exists():
            return
        try:
            lines = self.path.read_text().splitlines(keepends=True)
            kept = [line for line in lines if line.endswith("\n") and _images(line) <= images]
            if kept != lines:
                files.write_text(self.path, "".join(kept))
        except OSError as error:
            log.warning("%s could not be rewound, it will hold some lines twice: %s", self.path, error)

    def log(self, images: int, step: int, values: Mapping[str, float]) -> None:
        if not is_main_process():
            return
        line = {"images": images, "step": step, **{key: _plain(value) for key, value in values.items()}}
        self._write(json.dumps(line) + "\n")
        if self._wandb is not None:
            self._wandb.say(line)

    def finish(self) -> None:
        """Wait for wandb as long as it may take; called twice, the second time does nothing."""
        if self._pending:
            self._write("")
        if self._wandb is not None:
            self._wandb.finish()

    def _write(self, line: str) -> None:
        told = bool(self._pending)
        self._pending = [*self._pending, line][-MOST_LINES:]
        try:
            _append(self.path, "".join(self._pending))
        except OSError as error:
            if not told:
                log.warning("no line can be added to %s, they are kept until it can: %s", self.path, error)
        else:
            if told:
                log.warning("%s is written again, and complete", self.path)
            self._pending = []


def _append(path: Path, text: str) -> None:
    """All of `text` at the end of the file, or nothing of it: half a line would spoil the next one."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        size = os.fstat(handle).st_size
        data = text.encode()
        try:
            while data:
                data = data[os.write(handle, data) :]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(handle, size)
            raise
    finally:
        os.close(handle)


def _images(line: str) -> float:
    try:
        return float(json.loads(line)["images"])
    except (ValueError, KeyError, TypeError):  # spoilt by something else than us: it goes
        return float("inf")


def _plain(value: float) -> float | None:
    number = float(value)
    return round(number, 8) if number == number and abs(number) != float("inf") else None  # JSON has no NaN


class _Speaker:
    """The only one who speaks to wandb. What is said goes through a queue that never blocks the one who says it."""

    def __init__(self, options: Mapping[str, Any], *, mode: Wandb, start_seconds: float, finish_seconds: float) -> None:
        self._options, self._start_seconds, self._finish_seconds = options, start_seconds, finish_seconds
        self._lines: queue.Queue[dict[str, Any] | None] = queue.Queue(MOST_LINES)
        self._ready, self._failed, self._done = threading.Event(), threading.Event(), False
        self._run: Any = None
        modes: list[Wandb] = ["online", "offline"] if mode == "online" else [mode]
        self._thread = threading.Thread(target=self._speak, args=(modes,), name="wandb", daemon=True)
        self._thread.start()
        if not self._ready.wait(start_seconds * len(modes) + 1):
            self._fail("did not start", "no answer")

    def say(self, line: Mapping[str, Any]) -> None:
        if self._failed.is_set():
            return
        try:
            self._lines.put_nowait(dict(line))
        except queue.Full:
            self._fail("stopped", f"it has not taken {self._lines.qsize():,} lines")

    def finish(self) -> None:
        if self._done or self._failed.is_set():
            return
        self._done = True
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(None)
        self._thread.join(self._finish_seconds)
        if self._thread.is_alive():
            self._fail("stopped", f"it did not finish within {self._finish_seconds:.0f} s; 'wandb sync' sends the rest")

    # -- in the thread -------------------------------------------------------------------------------------------------

    def _speak(self, modes: list[Wandb]) -> None:
        for mode in modes:
            last = mode == modes[-1]
            try:
                self._run = self._begin(mode, again=mode != modes[0])
            except Exception as error:  # any failure of a tracker is a warning: the run and metrics.jsonl go on
                if last:
                    self._fail("did not start", error)
                else:
                    log.warning("wandb is not reached, so it keeps its files here ('wandb sync' sends them): %s", error)
            else:
                break
        self._ready.set()
        if self._run is None:
            return
        try:
            self._run.define_metric("*", step_metric="images")
            while (line := self._lines.get()) is not None:
                self._run.log(line)  # no `step`: wandb drops steps that come again after a run has gone back
            self._run.finish()
        except Exception as error:  # as above; it is not asked again
            self._fail("stopped", error)

    def _begin(self, mode: Wandb, *, again: bool) -> Any:
        """wandb.init, in a thread once more: an attempt that hangs must not keep the next one from being made."""
        answer: queue.Queue[Any] = queue.Queue()
        arguments = (answer, self._options, mode, self._start_seconds, self._finish_seconds, again)
        threading.Thread(target=_init, args=arguments, name=f"wandb {mode}", daemon=True).start()
        try:
            run = answer.get(timeout=self._start_seconds)
        except queue.Empty:
            raise TimeoutError(f"no answer within {self._start_seconds:.0f} s") from None
        if isinstance(run, BaseException):
            raise run
        return run

    def _fail(self, what: str, why: object) -> None:
        if not self._failed.is_set():
            self._failed.set()
            log.warning("wandb %s, metrics.jsonl is complete without it: %s", what, why)


def _init(
    answer: queue.Queue[Any], options: Mapping[str, Any], mode: Any, start: float, finish: float, again: bool
) -> None:
    try:
        import wandb

        # Its own limits are a little shorter than ours, so that it says itself what went wrong.
        # And it keeps off the terminal, whose panel it would copy four times a second.
        limits: dict[str, Any] = {
            "console": "off",
            "login_timeout": 0.4 * start,
            "init_timeout": 0.8 * start,
            "finish_timeout": 0.8 * finish,
        }
        known = {name: value for name, value in limits.items() if name in wandb.Settings.model_fields}
        if again:  # wandb's service still holds the name of the attempt that failed
            wandb.teardown()
        answer.put(wandb.init(**options, mode=mode, resume="allow", settings=wandb.Settings(**known)))
    except BaseException as error:  # wandb also exits; whatever it was, the one who waits is told
        answer.put(error)

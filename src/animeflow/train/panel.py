"""The live panel of a run on a terminal, plain lines elsewhere. Knows the terminal and the package's log; knows no loop.

Only the main process speaks. Nothing that happens here ends a run: a terminal that goes away takes its panel along, no more.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Literal

from rich.console import Console, RenderableType
from rich.file_proxy import FileProxy
from rich.live import Live
from rich.logging import RichHandler
from rich.text import Text

from ..core.log import is_main_process
from . import board
from .board import Facts
from .keys import Keys

log = logging.getLogger(__name__)
Mode = Literal["auto", "lines", "off"]

WISHES = {"s": "samples", "c": "a checkpoint", "p": "pause, or go on", "q": "save and stop"}


class Panel:
    """A context manager around the loop.

    Args:
        total_images: length of the run.
        mode: "auto" draws a live panel on a terminal (unless NO_COLOR is set) and writes lines elsewhere; "lines"; "off".
        title: of the run.
        price_per_hour: dollars of one device, from and to.
        devices: how many there are.
        images, seconds: where a resumed run goes on, and what it took until then.
        console: of rich, instead of the terminal.
    """

    def __init__(
        self,
        *,
        total_images: int,
        mode: Mode = "auto",
        title: str = "",
        price_per_hour: tuple[float, float] | None = None,
        devices: int = 1,
        images: int = 0,
        seconds: float = 0.0,
        console: Console | None = None,
    ) -> None:
        self.facts = Facts(title, total_images, images, seconds, price_per_hour, devices)
        self.mode = mode if is_main_process() else "off"
        self.live: Live | None = None
        self._lock = threading.Lock()
        self._keys = Keys()
        self._end = contextlib.ExitStack()
        if self.mode == "auto":
            if console is None and not _can_draw():
                self.mode = "lines"
            else:
                self._on_terminal = console is None
                self._console = console or Console(stderr=True)

    def __enter__(self) -> Panel:
        self.facts.started = time.monotonic()
        if self.mode != "auto":
            return self
        keys = self._end.enter_context(self._keys)
        self.facts.keys = keys.on
        self.live = Live(
            console=self._console,
            get_renderable=self._draw,
            refresh_per_second=4,
            vertical_overflow="crop",
            redirect_stdout=False,  # done here: see _Above
            redirect_stderr=False,
        )
        self.live.start(refresh=True)
        self._end.callback(self._stop, self.live)
        for name in ("stdout", "stderr"):
            self._end.callback(setattr, sys, name, getattr(sys, name))
            setattr(sys, name, _Above(self._console, getattr(sys, name)))
        self._end.callback(_logs_above(self._console, self._hear))
        return self

    def __exit__(self, *_: object) -> None:
        self.live = None
        self._end.close()

    # -- said by the loop ----------------------------------------------------------------------------------------------

    def begin(self, images: int, seconds: float) -> None:
        """Where a resumed run goes on, and what it took until then."""
        self.facts.images, self.facts.seconds = images, seconds

    def advance(self, images: int) -> None:
        """So many images more."""
        self.facts.images += images

    def show(self, values: Mapping[str, float]) -> None:
        """The numbers of a log line; what is absent is left out, or stays as it was."""
        if self.mode == "off":
            return
        with self._lock:
            self.facts.take(values)
        if self.live is not None and self._on_terminal and not os.isatty(2):  # it was hung up
            self.mode = "lines"
            self.__exit__()
        if self.mode == "lines":
            log.info("%s", board.words(self.facts))

    def event(self, text: str) -> None:
        """Something that happened: a checkpoint, a skipped step. Warnings of the package become events by themselves."""
        if self.mode == "lines":
            log.info("%s", text)
        elif self.live is not None:
            self._hear(text)

    def due(self, **images: int) -> None:
        """When what comes next comes, by name: `due(checkpoint=20_000, samples=50_000)`."""
        with self._lock:
            self.facts.due = dict(images)

    def mark(self, state: str) -> None:
        """What is being done: "training", "samples", "paused"."""
        self.facts.state = state

    def wishes(self) -> set[str]:
        """Keys pressed since the last call: s sample now, c checkpoint, p pause or go on, q save and stop."""
        if self.live is None:
            return set()
        found = set(self._keys.pressed().lower()) & set(WISHES)
        for key in sorted(found):
            self._hear(f"asked for: {WISHES[key]}")
        return found

    # -- drawing -------------------------------------------------------------------------------------------------------

    def _hear(self, text: str) -> None:
        with self._lock:
            self.facts.events.append(f"{time.strftime('%H:%M:%S')}  {text.splitlines()[0] if text else ''}")

    def _draw(self) -> RenderableType:
        try:
            with self._lock:
                return board.draw(self.facts, width=self._console.width, height=self._console.height)
        except Exception as error:  # of a thread that nobody waits for; the run goes on without a drawing
            return Text(f"the panel cannot be drawn: {error!r}")

    @staticmethod
    def _stop(live: Live) -> None:
        with contextlib.suppress(OSError, ValueError):  # the terminal is gone
            live.stop()


def _can_draw() -> bool:
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM", "") in ("dumb", "")
    return sys.stderr.isatty() and not plain


def _logs_above(console: Console, hear: Callable[[str], None]) -> Callable[[], None]:
    """Lead every handler that writes to the terminal above the panel, and warnings of the package into it as well. Returns what
    undoes it. What is printed is led there through sys.stdout and sys.stderr; a handler holds the stream it was made with."""
    undo = contextlib.ExitStack()
    known = [logging.getLogger(name) for name in logging.root.manager.loggerDict]
    for logger in (logging.root, *known):
        for handler in logger.handlers:
            if isinstance(handler, RichHandler):
                undo.callback(setattr, handler, "console", handler.console)
                handler.console = console
            elif isinstance(handler, logging.StreamHandler) and handler.stream in (sys.__stderr__, sys.__stdout__):
                undo.callback(handler.setStream, handler.stream)
                handler.setStream(sys.stderr if handler.stream is sys.__stderr__ else sys.stdout)
    listener = _Listener(hear)
    package = logging.getLogger("animeflow")
    package.addHandler(listener)
    undo.callback(package.removeHandler, listener)
    return undo.close


class _Above(FileProxy):
    """Where sys.stdout and sys.stderr lead while the panel is drawn. It says that it is no terminal: a progress bar that begins
    now becomes plain lines, for two cannot be drawn at once."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):  # hung up
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            super().flush()

    def isatty(self) -> bool:
        return False


class _Listener(logging.Handler):
    def __init__(self, hear: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._hear = hear

    def emit(self, record: logging.LogRecord) -> None:
        self._hear(record.getMessage())

"""Being asked to stop: by the scheduler, by a key, by Ctrl-C. Knows signals; knows no loop.

A handler only remembers. What is remembered travels with the sums of the next step to all processes, so all stop after the same
one.
"""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

log = logging.getLogger(__name__)

PREEMPTED = 75  # sysexits' EX_TEMPFAIL: nothing is wrong, start it again
INTERRUPTED = 130
_CAUGHT = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class Signals:
    """While entered, SIGTERM, SIGUSR1 and the first SIGINT ask for a stop; a second SIGINT ends the process at once."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    @property
    def exit_code(self) -> int:
        """Of a run that was stopped."""
        return INTERRUPTED if self.received is signal.SIGINT else PREEMPTED

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():  # Python allows handlers only there
            self._before = {number: signal.signal(number, self._remember) for number in _CAUGHT}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.received is signal.SIGINT and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signal.Signals(number)
        log.info("%s: all is saved after the step under way (the first one may still be compiling)", self.received.name)

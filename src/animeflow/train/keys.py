"""Keys pressed on the terminal that a run was started from. Knows the terminal; knows no meaning of a key."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Iterator


class Keys:
    """A context manager in which single keys can be read, without waiting and without Enter; nothing without a terminal.

    The terminal belongs to whoever is in its foreground: a run in the background neither reads from it nor changes it, since the
    kernel would stop it for that. After Ctrl-Z and `fg` it takes it again.
    """

    def __init__(self) -> None:
        self._handle: int | None = None
        self._before: list[object] = []

    def __enter__(self) -> Keys:
        with contextlib.suppress(OSError, ValueError, termios.error):
            handle = sys.stdin.fileno()
            if os.isatty(handle) and _in_front(handle):
                self._before = termios.tcgetattr(handle)
                self._handle = handle
                self._take()
        return self

    def __exit__(self, *_: object) -> None:
        handle, self._handle = self._handle, None
        if handle is not None and _in_front(handle):  # else the shell has put its own settings back
            with contextlib.suppress(OSError, termios.error), _not_stopped():
                termios.tcsetattr(handle, termios.TCSADRAIN, self._before)  # type: ignore[arg-type]

    @property
    def on(self) -> bool:
        return self._handle is not None

    def pressed(self) -> str:
        """What was pressed since the last call, in order."""
        if self._handle is None or not _in_front(self._handle):
            return ""
        with contextlib.suppress(OSError, termios.error):
            if termios.tcgetattr(self._handle)[3] & termios.ICANON:  # after `fg` the shell's settings are in place
                self._take()
            if select.select([self._handle], [], [], 0)[0]:
                data = os.read(self._handle, 1024)
                if not data:  # hung up
                    self._handle = None
                return data.decode(errors="ignore")
        return ""

    def _take(self) -> None:
        assert self._handle is not None
        with _not_stopped():
            tty.setcbreak(self._handle, termios.TCSADRAIN)  # Ctrl-C and Ctrl-Z keep their meaning


def _in_front(handle: int) -> bool:
    """Whether this process is in the foreground of the terminal of its session; a child of torchrun has none."""
    try:
        return os.tcgetpgrp(handle) == os.getpgrp()
    except OSError:
        return False


@contextlib.contextmanager
def _not_stopped() -> Iterator[None]:
    """Between our look and our call the shell may have taken the terminal; the kernel shall not stop us for that moment."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

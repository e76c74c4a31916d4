"""One run in one folder at a time. Knows the lock's file; knows no loop.

A launcher that was killed can leave its workers alive: started again, two runs would write the same lines and checkpoints, each
over the other's. The lock goes with the process that holds it, whatever kills it.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from ..core.errors import ConfigError
from ..core.lock import Lock, NoLocks

NAME = ".running.lock"


class Claim:
    """Held by the main process from `take` to `release`."""

    def __init__(self, folder: Path, *, mine: bool) -> None:
        self._lock = Lock(folder / NAME, signed=True) if mine else None

    def take(self) -> None:
        """Raises ConfigError where another process holds the folder; nothing has been changed in it then. On a file system without
        locks nothing is held and nothing refused."""
        if self._lock is None:
            return
        folder = self._lock.path.parent
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(NoLocks):
            if not self._lock.take():
                who = self._lock.holder()
                raise ConfigError(
                    "this run folder is in use" + (f" by {who}" if who else ""),
                    where=str(folder),
                    why="two runs in one folder would overwrite each other's lines and checkpoints",
                    do="end the other one first, or choose another name=...",
                )

    def release(self) -> None:
        if self._lock is not None:
            self._lock.release()

"""One run in one folder at a time. Knows files and locks; knows no loop.

A launcher that was killed can leave its workers alive: started again, two runs would write the same lines and checkpoints, each
over the other's. The lock goes with the process that holds it, whatever kills it.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from pathlib import Path

from ..core.errors import ConfigError

NAME = ".running"


class Claim:
    """Held by the main process from `take` to `release`."""

    def __init__(self, folder: Path, *, mine: bool) -> None:
        self.path, self._mine = folder / NAME, mine
        self._handle: int | None = None

    def take(self) -> None:
        """Raises ConfigError where another process holds the folder; nothing has been changed in it then. On a file system without
        locks nothing is held and nothing refused."""
        if not self._mine or self._handle is not None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            said = os.read(handle, 4096).decode(errors="replace").strip()
            os.close(handle)
            raise ConfigError(
                "this run folder is in use" + (f" by {said}" if said else ""),
                where=str(self.path.parent),
                why="two runs in one folder would overwrite each other's lines and checkpoints",
                do="end the other one first, or choose another name=...",
            ) from None
        except OSError:
            os.close(handle)
            return
        who = {"process": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(who).encode(), 0)
        self._handle = handle

    def release(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

"""A lock that one process holds at a time. Its death lets go of it, whatever kills it. Knows files; knows nothing that it guards.

`filelock` locks on every operating system. The lock is a file beside what it guards, never the thing itself: Windows lets nobody
read a byte that is locked, and opens no folder. Where the file system has no locks at all, `take` says so with NoLocks.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

log = logging.getLogger(__name__)

_NONE = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL}
_PATIENCE_S = 10.0  # how long somebody waits for a turn before a line says for whom


class NoLocks(OSError):
    """This file system locks nothing."""


class Lock:
    """Of the file `path`, which is made when it is first taken. Threads, and other Locks of that path, take turns as processes do.

    Args:
        path: ends in `.lock`; who holds it is written beside, with `.who` in its stead.
        signed: write down who holds it. The note goes with `release`; a killed holder's stays, and nobody reads it then.
    """

    def __init__(self, path: str | Path, *, signed: bool = False) -> None:
        from filelock import FileLock  # slow to import, and most programs lock nothing

        self.path, self._who = Path(path), Path(path).with_suffix(".who") if signed else None
        # Taken by one thread it may be released by another; the file's mode is left to the umask.
        self._lock = FileLock(self.path, thread_local=False, poll_interval=0.02)

    @property
    def held(self) -> bool:
        """By this object."""
        return bool(self._lock.is_locked)

    def take(self, *, wait: bool = False) -> bool:
        """False where somebody else holds it and we do not wait. Raises NoLocks where there are none."""
        from filelock import Timeout

        if self.held:
            return True
        while True:
            try:
                self._lock.acquire(timeout=_PATIENCE_S if wait else 0)
                break
            except Timeout:
                if not wait:
                    return False
                log.warning("waiting for %s, which is held%s", self.path, _by(self.holder()))
            except (NotImplementedError, OSError) as error:
                if isinstance(error, OSError) and error.errno not in _NONE:
                    raise
                raise NoLocks(errno.ENOLCK, "no locks on this file system", str(self.path)) from error
        if self._who is not None:
            who = {"process": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
            with contextlib.suppress(OSError):  # a disk that is full takes no note, and the lock holds all the same
                self._who.write_text(json.dumps(who))
        return True

    def holder(self) -> str:
        """Who holds a signed lock, in words; "" where nobody says."""
        try:
            who = json.loads(self._who.read_text()) if self._who is not None else {}
            return f"process {who['process']} on {who['host']}, since {who['since']}" if who else ""
        except (OSError, ValueError, KeyError, TypeError):  # not written yet, or gone this moment
            return ""

    def release(self, *, remove: bool = False) -> None:
        """Let go of it; `remove` takes its file away too, for a lock whose name nobody will use again."""
        if not self.held:
            return
        if self._who is not None:
            self._who.unlink(missing_ok=True)
        if remove:
            with contextlib.suppress(OSError):  # Windows removes no open file; there filelock does it a moment later
                self.path.unlink(missing_ok=True)
        self._lock.release()


@contextlib.contextmanager
def passing(path: str | Path) -> Iterator[bool]:
    """Hold a lock inside whose file is gone after; False where another holds it, or the file system has none."""
    lock = Lock(path)
    try:
        held = lock.take()
    except NoLocks:
        held = False
        lock.path.unlink(missing_ok=True)
    try:
        yield held
    finally:
        lock.release(remove=True)


def _by(holder: str) -> str:
    return f" by {holder}" if holder else ""

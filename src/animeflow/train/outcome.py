"""How a run ended, in a file that a job script reads: `EXIT.json`. Knows words and numbers; knows no loop.

A launcher's own exit code tells little: torchrun leaves with 1 also where every worker left with 0 after a signal.
"""

from __future__ import annotations

import time
from pathlib import Path

from ..core import files
from ..core.errors import AnimeflowError
from .incidents import Diverged
from .settings import Progress

FINISHED, PREEMPTED, FAILED, DIVERGED = "finished", "preempted", "failed", "diverged"
NAME = "EXIT.json"
_STARTED = time.time()


def of(error: BaseException) -> str:
    """The reason that an error is."""
    return DIVERGED if isinstance(error, Diverged) else FAILED


def write(
    folder: Path,
    reason: str,
    progress: Progress,
    *,
    exit_code: int | None = None,
    rank: int = 0,
    error: BaseException | None = None,
) -> None:
    """Whole or not at all. Of several processes that fail, one knows why, and the others that it is gone: what says more stays. A
    disk that is full hides no other error."""
    code = exit_code if exit_code is not None else (2 if isinstance(error, AnimeflowError) else 1)
    values = {
        "reason": reason, "exit_code": code, "images": progress.images_seen, "step": progress.step, "rank": rank,
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "error": None if error is None else f"{type(error).__name__}: {error}",
    }  # fmt: skip
    if code == 1 and _says_more(folder / NAME):
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files.write_json(folder / NAME, values)
    except OSError:
        if error is None:
            raise


def _says_more(path: Path) -> bool:
    """Whether another process of this very start has left an error that a person can act on."""
    try:
        return path.stat().st_mtime >= _STARTED and files.read_json(path)["exit_code"] == 2
    except (OSError, ValueError, KeyError):
        return False

"""What a person sees while something runs: log lines and progress bars, from the main process only. Knows rich; knows no room."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator


def is_main_process() -> bool:
    """Rank 0, read from the launcher's environment so that nothing has to be initialised first."""
    return int(os.environ.get("RANK", "0")) == 0


def setup(level: int = logging.INFO) -> None:
    """Send the package's log lines to stderr. Called by the command line only, never on import."""
    from rich.console import Console
    from rich.logging import RichHandler

    logger = logging.getLogger("animeflow")
    logger.handlers.clear()
    logger.propagate = False
    logger.setLevel(level if is_main_process() else logging.WARNING)
    if sys.stderr.isatty():
        handler: logging.Handler = RichHandler(console=Console(stderr=True), show_path=False, markup=False)
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    logger.addHandler(handler)


def _nothing(n: int = 1) -> None:
    """The progress of every process but the main one."""


@contextlib.contextmanager
def progress(title: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Yield `advance(n)`. A live bar on a terminal; otherwise a plain line at every tenth, so that logs stay readable."""
    if not is_main_process():
        yield _nothing
        return
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), refresh_per_second=4) as bar:
            task = bar.add_task(title, total=total)

            def move(n: int = 1) -> None:
                bar.advance(task, n)

            yield move
        return
    logger, done, told = logging.getLogger("animeflow"), 0, 0

    def advance(n: int = 1) -> None:
        nonlocal done, told
        done += n
        tenth = done * 10 // total if total else done // 1000
        if tenth > told:
            told = tenth
            logger.info("%s: %s%s", title, f"{done:,}", f" of {total:,}" if total else "")

    yield advance

"""Work that may die, in a process of its own: a codec that crashes, hangs or eats memory takes that process along, and no more.

The process starts anew (no fork: this one may have threads), may hold so much memory, and has to give something again and again.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

QUIET_S = 120.0  # without a word, after which the work hangs
ADDRESS_GIB = 8  # of address space: buffers and libraries count, so it is more than what a decoder should ever hold


class Died(Exception):
    """The process ended, or was ended, before its work was done. The text says how."""


def apart(work: Callable[..., None], *arguments: Any, quiet_s: float = QUIET_S) -> Iterator[Any]:
    """What `work(tell, *arguments)` tells, from a process of its own.

    A worker that may start none (it is a daemon) is apart already, and does the work itself.

    Args:
        work: a function of a module; what it tells and raises has to be picklable.
    Raises:
        Died: it crashed, or gave nothing for `quiet_s`.
        Exception: what the work itself raised.
    """
    if multiprocessing.current_process().daemon:
        told: list[Any] = []
        work(told.append, *arguments)
        yield from told
        return
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(theirs, work, arguments), daemon=True)
    process.start()
    theirs.close()
    try:
        while True:
            if not ours.poll(quiet_s):
                raise Died(f"it gave nothing for {quiet_s:g} s")
            try:
                kind, what = ours.recv()
            except EOFError:
                process.join(5)
                raise Died(_ended(process.exitcode)) from None
            if kind == "done":
                return
            if kind == "raised":
                raise what
            yield what
    finally:
        ours.close()
        process.kill()
        process.join()


def _ended(code: int | None) -> str:
    if code is not None and code < 0:
        return f"its process was ended by signal {-code}"
    return f"its process ended with code {code}"


def _work(pipe: Connection, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """In the process."""
    if sys.platform == "linux":
        import resource

        size = ADDRESS_GIB << 30
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (size if hard < 0 else min(size, hard), hard))
    try:
        work(lambda what: pipe.send(("given", what)), *arguments)
    except BrokenPipeError:
        return  # nobody listens any more
    except Exception as error:
        pipe.send(("raised", error))
    else:
        pipe.send(("done", None))

"""Work done ahead of the reader: in order, a bounded number of items early. Knows executors; knows nothing of the work."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

In = TypeVar("In")
Out = TypeVar("Out")


def ahead(pool: Executor, function: Callable[[In], Out], items: Iterable[In], *, count: int) -> Iterator[Out]:
    """`map(function, items)` in `pool` with at most `count` results waiting; what failed raises where its result is due."""
    waiting: deque[Future[Out]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()

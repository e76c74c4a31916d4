"""Entries that are on their way from a store elsewhere: asked for early, handed out when they are wanted. Knows addresses only."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, Executor, Future
from dataclasses import dataclass
from typing import Generic, TypeVar

from .place import OutOfReach

T = TypeVar("T")


@dataclass
class _Wanted(Generic[T]):
    future: Future[T]
    times: int


class Coming(Generic[T]):
    """Results of `load` by address, each loaded once for all who ask at the same time.

    Args:
        load: gives an entry, slowly, or raises.
        limit: entries on their way or waiting to be taken; beyond it `start` does nothing, and `get` loads when it is called.
        recent: entries that stay at hand after they were taken, for neighbours in a batch that share one.
    """

    def __init__(self, load: Callable[[str], T], *, limit: int = 4096, recent: int = 32) -> None:
        self._load, self._limit, self._recent_limit = load, limit, recent
        self._lock = threading.Lock()
        self._wanted: dict[str, _Wanted[T]] = {}
        self._recent: OrderedDict[str, T] = OrderedDict()

    def start(self, addresses: Iterable[str], pool: Executor) -> None:
        """Begin to load in `pool`. An address that is named twice is loaded once and can be taken twice."""
        for address in addresses:
            with self._lock:
                known = self._wanted.get(address)
                if known:
                    known.times += 1
                elif len(self._wanted) < self._limit:
                    self._wanted[address] = _Wanted(pool.submit(self._load, address), 1)

    def get(self, address: str) -> T:
        """The entry, or what its loading raised."""
        with self._lock:
            if address in self._recent:
                self._recent.move_to_end(address)
                self._take(address)
                return self._recent[address]
            wanted = self._take(address)
        try:
            value = wanted.future.result() if wanted else self._load(address)
        except CancelledError:
            raise OutOfReach(f"entry {address} was not waited for any more: the store was closed") from None
        with self._lock:
            self._recent[address] = value
            if len(self._recent) > self._recent_limit:
                self._recent.popitem(last=False)
        return value

    def _take(self, address: str) -> _Wanted[T] | None:
        wanted = self._wanted.get(address)
        if wanted:
            wanted.times -= 1
            if not wanted.times:
                del self._wanted[address]
        return wanted

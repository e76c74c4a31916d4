"""Entries that are on their way from a store elsewhere: asked for early, handed out when they are wanted. Knows addresses only."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, Executor, Future
from typing import Generic, TypeVar

from .place import OutOfReach

T = TypeVar("T")


class Coming(Generic[T]):
    """Results of `load` by address.

    Args:
        load: gives an entry, slowly, or raises.
        limit: entries on their way or waiting to be taken; the oldest are forgotten, so what nobody takes costs no memory for long.
        recent: entries that stay at hand after they were taken, for neighbours in a batch that share one.
    """

    def __init__(self, load: Callable[[str], T], *, limit: int = 4096, recent: int = 32) -> None:
        self._load, self._limit, self._recent_limit = load, limit, recent
        self._lock = threading.Lock()
        self._started: OrderedDict[str, Future[T]] = OrderedDict()
        self._recent: OrderedDict[str, T] = OrderedDict()

    def start(self, addresses: Iterable[str], pool: Executor) -> None:
        """Begin to load in `pool` what is not on its way already."""
        for address in addresses:
            with self._lock:
                if address in self._started or address in self._recent:
                    continue
                self._started[address] = pool.submit(self._load, address)
                if len(self._started) > self._limit:
                    self._started.popitem(last=False)[1].cancel()

    def get(self, address: str) -> T:
        """The entry, or what its loading raised."""
        with self._lock:
            if address in self._recent:
                self._recent.move_to_end(address)
                return self._recent[address]
            future = self._started.pop(address, None)
        try:
            value = future.result() if future else self._load(address)
        except CancelledError:
            raise OutOfReach(f"entry {address} was not waited for any more: the store was closed") from None
        with self._lock:
            self._recent[address] = value
            if len(self._recent) > self._recent_limit:
                self._recent.popitem(last=False)
        return value

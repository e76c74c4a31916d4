"""One store elsewhere, through its fsspec file system: requests with a time limit, repeated when they fail, counted.

Knows faults, waits and what clients of several protocols call them; knows no folder and no format.
"""

from __future__ import annotations

import errno
import queue
import random
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ..core.errors import ConfigError, DataError
from .kept import KeptRanges
from .place import OutOfReach, Traffic

Out = TypeVar("Out")

_REFUSED = {400, 401, 402, 403, 405, 407, 411, 412, 451, 501}
_BUGS = (TypeError, AttributeError, NameError, AssertionError, NotImplementedError)


@dataclass(frozen=True)
class Remote:
    """How a store elsewhere is asked.

    Args:
        retries: of one request, after the first try.
        timeout_s: of one try.
        wait_s: before the first retry, which mostly helps; four times as long before each further one, up to `longest_wait_s`, and
            jittered down by up to a half.
        outage_s: a store that has answered before is waited for so long; one that never did only for the retries.
        connections: requests under way at once.
        keep: a local folder for copies of what was fetched, at most `keep_bytes` of it; None keeps none.
        options: of the protocol's fsspec class (`endpoint_url`, `anon`, ...). Keys and passwords belong into the environment.
    Raises:
        ConfigError: a number is impossible.
    """

    retries: int = 5
    timeout_s: float = 20.0
    wait_s: float = 0.05
    longest_wait_s: float = 30.0
    outage_s: float = 600.0
    connections: int = 32
    keep: Path | None = None
    keep_bytes: int = 100 * 2**30
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, least in (("retries", 0), ("timeout_s", 1e-3), ("wait_s", 0), ("connections", 1), ("keep_bytes", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name}={getattr(self, name)} is too small", where=f"data.remote.{name}")


class Connection:
    """One store, its limits and its counts; shared by every folder of it that is read."""

    def __init__(self, filesystem: Any, remote: Remote) -> None:
        self.filesystem, self.remote, self.traffic = filesystem, remote, Traffic()
        self.kept = KeptRanges(remote.keep, remote.keep_bytes) if remote.keep else None
        self._lock, self._closed = threading.Lock(), threading.Event()
        self._answered, self._jitter = False, random.Random()  # of waiting times only
        self._pool: ThreadPoolExecutor | None = None

    @property
    def pool(self) -> Executor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.remote.connections, thread_name_prefix="remote")
            return self._pool

    def ask(self, where: str, method: str, *arguments: Any, judge: Callable[[Any], Out], **options: Any) -> Out:
        """`judge` of what a method of the file system gives; both are repeated when either fails.

        Raises:
            FileNotFoundError: there is no such file, says the store.
            OutOfReach: the store refuses, or did not answer for as long as it is waited for.
            DataError: of `judge`, when the last answer was no better than the first.
        """
        first, attempt = time.monotonic(), 0
        while True:
            try:
                answer = self._try(method, *arguments, **options)
                self._answered = True
                return judge(answer)
            except Exception as caught:
                error = _cause(caught)
                self._give_up(error, where, attempt, time.monotonic() - first)
            wait = self._wait(attempt, answered=isinstance(error, DataError))
            attempt += 1
            self.count(retries=1, seconds_waited=wait)
            if self._closed.wait(wait):
                raise OutOfReach("the store was waited for when the run ended", where=where)

    def _wait(self, attempt: int, *, answered: bool) -> float:
        """Seconds before the next try. A store that answers, if wrongly, is not overloaded: it need not be spared."""
        growth = 1.0 if answered else 4.0 ** min(attempt, 20)
        return min(self.remote.wait_s * growth, self.remote.longest_wait_s) * self._jitter.uniform(0.5, 1.0)

    def _give_up(self, error: Exception, where: str, attempt: int, seconds: float) -> None:
        """Raise what a fault comes to, unless it is worth another try."""
        if isinstance(error, (FileNotFoundError, OutOfReach, *_BUGS)):
            raise error
        status = _status(error)
        if status in (404, 410):
            raise FileNotFoundError(where) from error
        if isinstance(error, PermissionError) or status in _REFUSED:
            raise OutOfReach(
                f"the store refuses: {_words(error)}", where=where,
                do="check the address and your rights (keys come from the environment), then start the same command again",
            ) from error  # fmt: skip
        if status == 416:  # the range begins behind the end of the file
            raise DataError("the file ends early: the store has no such range", where=where) from error
        if attempt < self.remote.retries:
            return
        if isinstance(error, DataError):
            raise error
        if not self._answered or seconds >= self.remote.outage_s:
            raise OutOfReach(
                f"the store gives no answer: {_words(error)}, {attempt + 1} tries in {seconds:.0f} s", where=where,
                why="nothing is lost: what was trained is in the run's checkpoints",
                do="when the store answers again, start the same command: the run can be resumed",
            ) from error  # fmt: skip

    def _try(self, method: str, *arguments: Any, **options: Any) -> Any:
        """One request. It is left behind when its time is up; the answer that still comes is nobody's."""
        self.count(requests=1)
        if self.filesystem.async_impl:
            from fsspec.asyn import sync

            call = getattr(self.filesystem, f"_{method}")
            return sync(self.filesystem.loop, call, *arguments, timeout=self.remote.timeout_s, **options)
        return _within(self.remote.timeout_s, lambda: getattr(self.filesystem, method)(*arguments, **options))

    def count(self, **amounts: float) -> None:
        with self._lock:
            for name, amount in amounts.items():
                setattr(self.traffic, name, getattr(self.traffic, name) + amount)

    def close(self) -> None:
        self._closed.set()
        with self._lock:
            pool, self._pool = self._pool, None
        if pool:
            pool.shutdown(wait=False, cancel_futures=True)


def _within(seconds: float, call: Callable[[], Any]) -> Any:
    """`call()` in a thread of its own, which is left behind when it takes too long: a blocking call cannot be ended."""
    box: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            box.put((call(), None))
        except BaseException as error:
            box.put((None, error))

    threading.Thread(target=run, name="remote-request", daemon=True).start()
    try:
        value, error = box.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer in {seconds} s") from None
    if error:
        raise error
    return value


def _cause(error: Exception) -> Exception:
    """fsspec's http says "not found" of any failed look at a file, and keeps what it was as the cause."""
    inner = error.__cause__
    network = isinstance(inner, OSError) or type(inner).__module__.startswith(("aiohttp", "asyncio"))
    return inner if isinstance(error, FileNotFoundError) and isinstance(inner, Exception) and network else error


def _status(error: Exception) -> int | None:
    """The HTTP status in an error of whatever client; None where there is none."""
    for name in ("status", "status_code", "code"):
        value = getattr(error, name, None)
        if isinstance(value, int):
            return value
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM):
        return 403
    answer = getattr(error.__cause__, "response", None)  # s3fs keeps that of botocore as the cause
    return answer.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(answer, Mapping) else None


def _words(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200].rstrip(": ")

"""Who does the work of many pictures: processes of this machine, or a Ray cluster. Knows executors; knows nothing of the work.

The stages of a set are functions of single pictures, given to a `concurrent.futures.Executor` and read back in order, so who runs
them changes nothing of what they give. The door to Ray.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import connection
from typing import Any

from .errors import ConfigError, did_you_mean

KINDS = ("local", "ray")


@dataclass(frozen=True)
class Engine:
    """Where work is done.

    Args:
        kind: local (processes of this machine) or ray.
        workers: processes, or tasks of Ray under way at once; 0 does the work in this process (local), or takes as many as the
            cluster has processors (ray).
        address: of a running cluster (`auto`, or `ray://HOST:PORT`); without one Ray is started on this machine.
    Raises:
        ConfigError: there is no such kind.
    """

    kind: str = "local"
    workers: int = 0
    address: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(
                f"unknown engine '{self.kind}'{did_you_mean(str(self.kind), KINDS)}",
                where="engine.kind",
                do=f"choose one of: {', '.join(KINDS)}",
            )

    @property
    def in_process(self) -> bool:
        return self.kind == "local" and self.workers <= 0

    def executor(self, *, gpus: float = 0) -> Executor:
        """An executor to use as a context; a worker that died raises BrokenProcessPool out of `Future.result`.

        Args:
            gpus: that a task of Ray needs.
        Raises:
            ConfigError: Ray is not installed, or there is no cluster at the address.
        """
        if self.kind == "ray":
            return RayExecutor(self, gpus=gpus)
        context = multiprocessing.get_context("spawn")  # a fork of a threaded process may hang
        return ProcessPoolExecutor(self.workers, mp_context=context, initializer=leave_with_parent)

    def width(self) -> int:
        """How many tasks are done side by side."""
        return _processors(self) if self.kind == "ray" and self.workers <= 0 else max(1, self.workers)

    def gpus(self) -> int:
        """Of the cluster; 0 for this machine, whose GPUs belong to the processes of a launcher."""
        return int(_connect(self).cluster_resources().get("GPU", 0)) if self.kind == "ray" else 0


class RayExecutor(Executor):
    """Functions as tasks of Ray. A task whose worker dies is not tried again: the one who asked decides."""

    def __init__(self, engine: Engine, *, gpus: float = 0) -> None:
        self._ray = _connect(engine)
        # Made once: Ray keeps every remote function that was ever made, in the cluster and in each worker.
        self._task = self._ray.remote(max_retries=0, num_cpus=1, num_gpus=gpus)(_told)
        self._free = engine.workers if engine.workers > 0 else sys.maxsize
        self._waiting: deque[tuple[Future[Any], tuple[Any, ...]]] = deque()
        self._lock = threading.Lock()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        answer: Future[Any] = Future()
        with self._lock:
            self._waiting.append((answer, (fn, args, kwargs)))
        self._begin()
        return answer

    def _begin(self) -> None:
        """Give the cluster what waits, as far as `workers` of the engine allows."""
        while True:
            with self._lock:
                if not self._waiting or not self._free:
                    return
                answer, call = self._waiting.popleft()
                if not answer.set_running_or_notify_cancel():
                    continue
                self._free -= 1
            found = self._task.remote(*call).future()
            found.add_done_callback(partial(self._settle, answer))

    def _settle(self, answer: Future[Any], found: Future[Any]) -> None:
        with self._lock:
            self._free += 1
        self._begin()
        lost = self._ray.exceptions
        error = CancelledError("Ray was shut down") if found.cancelled() else found.exception()
        if error is None:
            value, raised = found.result()
            answer.set_result(value) if raised is None else answer.set_exception(raised)
        elif isinstance(error, lost.WorkerCrashedError | lost.OutOfMemoryError | lost.NodeDiedError):
            answer.set_exception(BrokenProcessPool(str(error)))
        else:
            answer.set_exception(error)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """The cluster stays for the next stage, and ends with this process where it was started here."""
        if cancel_futures:
            with self._lock:
                waiting, self._waiting = self._waiting, deque()
            for answer, _ in waiting:
                answer.cancel()


def _told(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Exception | None]:
    """In a worker. Errors travel as values: Ray would wrap them, and their classes would be lost to who asked."""
    try:
        return function(*args, **kwargs), None
    except Exception as error:
        return None, error


def _connect(engine: Engine) -> Any:
    """Ray, with a cluster behind it."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing of a run is told to anybody
    try:
        import ray
    except ImportError as error:
        raise ConfigError(
            "engine=ray needs Ray, which is not installed", where="engine.kind", do="pip install 'animeflow[ray]'"
        ) from error
    if ray.is_initialized():
        return ray
    options: dict[str, Any] = {"runtime_env": {"env_vars": {"OMP_NUM_THREADS": "1"}}}
    if engine.address is None:
        options |= {"num_cpus": engine.workers or None, "include_dashboard": False}
    try:
        ray.init(address=engine.address, configure_logging=False, log_to_driver=False, **options)
    except (ConnectionError, ValueError) as error:
        raise ConfigError(
            f"there is no Ray cluster at {engine.address}",
            where="engine.address",
            why=" ".join(str(error).split())[:200],
            do="start one with `ray start --head`, or leave the address out",
        ) from error
    return ray


def _processors(engine: Engine) -> int:
    return max(1, int(_connect(engine).cluster_resources().get("CPU", 1)))


def leave_with_parent() -> None:
    """End this worker when its parent is killed; a pool's workers would otherwise wait for work for ever."""
    os.environ["OMP_NUM_THREADS"] = "1"
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

"""Cases by number through processes that may die or hang: each case gets an answer. Knows processes; knows no format.

A worker tells when it begins a case, so the case that killed or stopped it is known; a new worker goes on behind it.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import Any

from . import watch
from .cases import Case, make

Door = Callable[[Case, Path, Path], tuple[str, str]]  # what became of a case's files, and why
FINDINGS = ("crash", "died", "hang", "memory", "outside", "did")


@dataclass
class Answer:
    """What became of a case.

    Attributes:
        what: taken, refused, error; or a finding: crash (an exception of another kind, or an answer that cannot be true), died,
            hang, memory, outside (a file beside the target), did (a program, a socket, a pickle's global).
        peak: MiB of memory above what the worker held before.
    """

    number: int
    format: str
    door: str
    what: str
    detail: str = ""
    seconds: float = 0.0
    peak: int = 0
    bytes: int = 0
    trace: str = ""

    @property
    def is_finding(self) -> bool:
        return self.what in FINDINGS


@dataclass(frozen=True)
class Rules:
    """Bounds of one case: seconds of a processor, MiB above what a worker holds at rest, and GiB of address space of a worker. On a
    machine with other work a case may take `patience` times as long by the clock, which is also what one may wait for nothing."""

    seconds: float = 20.0
    patience: float = 6.0
    memory_mib: int = 1024
    address_gib: int = 8


class Bench:
    """A folder where one process tries cases: `given` holds a case's files, `target` what is made of them, everything else has to
    stay as it is."""

    def __init__(self, folder: Path, rules: Rules, door: Door) -> None:
        self.folder, self.rules, self.door, self.watch = folder, rules, door, watch.Watch()
        self.outside = folder / "outside"
        self.outside.mkdir(parents=True)
        (self.outside / "secret.png").write_bytes(b"this file is nobody's business")
        os.environ["TMPDIR"], os.environ["HOME"] = str(self.outside), str(self.outside)
        tempfile.tempdir = None
        os.chdir(self.outside)

    def attempt(self, case: Case) -> Answer:
        given, target = self.folder / "given", self.folder / "target"
        lay_out(case, given)
        target.mkdir()
        size = sum(map(len, case.files.values()))
        before = watch.snapshot(self.folder, without=target)
        watch.forget_peak()
        base, start = watch.peak_mib(), time.monotonic()
        self.watch.root, trace = str(target.resolve()), ""
        try:
            what, detail = self.door(case, given, target)
        except Exception as error:
            what, detail, trace = "crash", f"{type(error).__name__}: {error}"[:200], traceback.format_exc()
        finally:
            self.watch.root = None
        seconds, peak = time.monotonic() - start, watch.peak_mib() - base
        touched = sorted(dict(set(watch.snapshot(self.folder, without=target).items()) ^ set(before.items())))
        forbidden = [each for each in self.watch.seen if not each.startswith(("open ", *watch.CHANGES))]
        if what not in FINDINGS:
            if forbidden:
                what, detail = "did", forbidden[0]
            elif self.watch.seen or touched:
                what, detail = "outside", (self.watch.seen + touched)[0]
            elif peak > self.rules.memory_mib:
                what, detail = "memory", f"{peak} MiB"
        self.watch.seen = []
        for folder in (given, target):
            shutil.rmtree(folder, ignore_errors=True)
        return Answer(case.number, case.format, case.door, what, detail, seconds, peak, size, trace)


def lay_out(case: Case, folder: Path) -> None:
    for name, data in case.files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)


def run(
    numbers: range, *, seed: int, workers: int, rules: Rules, folder: Path, door: Door | None = None
) -> Iterator[Answer]:
    """An answer for every number, as they come. `door` stands for all that there are: to try the fuzzer itself."""
    waiting = iter(numbers)
    first = [_Worker(folder / f"w{n}", seed, rules, door) for n in range(workers)]
    crew = {worker.pipe: worker for worker in first}
    try:
        for worker in crew.values():
            worker.give(next(waiting, None))
        while any(worker.number is not None for worker in crew.values()):
            connection.wait([pipe for pipe, worker in crew.items() if worker.number is not None], timeout=0.5)
            for pipe, worker in list(crew.items()):
                answer = worker.answer()
                if answer is None:
                    continue
                if answer.what in ("died", "hang"):
                    del crew[pipe]
                    worker = worker.replaced()
                    crew[worker.pipe] = worker
                yield answer
                worker.give(next(waiting, None))
    finally:
        for worker in crew.values():
            worker.end()


class _Worker:
    """A process and the case that it has in work."""

    def __init__(self, folder: Path, seed: int, rules: Rules, door: Door | None, *, life: int = 0) -> None:
        self.folder, self.seed, self.rules, self.door, self.life = folder, seed, rules, door, life
        self.number: int | None = None
        self.begun = self.spent = 0.0
        self.ready = False
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(
            target=_work, args=(theirs, str(folder / str(life)), seed, rules, door), daemon=True
        )
        self.process.start()
        theirs.close()

    def give(self, number: int | None) -> None:
        self.number, self.begun = number, time.monotonic()
        if number is not None:
            self.pipe.send(number)

    def answer(self) -> Answer | None:
        """None while it is at work. A worker that starts has a minute for its imports."""
        if self.number is None:
            return None
        try:
            while self.pipe.poll():
                told = self.pipe.recv()
                if isinstance(told, Answer):
                    return told
                self.begun, self.spent, self.ready = time.monotonic(), self._processor_seconds(), True
        except (EOFError, ConnectionResetError):
            self.process.join(5)
            return self._lost("died", f"exit code {self.process.exitcode}")
        seconds, limit = time.monotonic() - self.begun, self.rules.seconds if self.ready else 60
        if seconds > limit and (
            seconds > limit * self.rules.patience or self._processor_seconds() - self.spent > limit
        ):
            return self._lost("hang", f"over {limit:g} s")
        return None

    def _processor_seconds(self) -> float:
        """That the process has used; none where the system does not tell."""
        try:
            facts = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(facts[11]) + int(facts[12])) / os.sysconf("SC_CLK_TCK")

    def _lost(self, what: str, detail: str) -> Answer:
        assert self.number is not None
        self.end()
        case = make(self.seed, self.number)
        size = sum(map(len, case.files.values()))
        return Answer(self.number, case.format, case.door, what, detail, time.monotonic() - self.begun, 0, size)

    def replaced(self) -> _Worker:
        return _Worker(self.folder, self.seed, self.rules, self.door, life=self.life + 1)

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _work(pipe: Any, folder: str, seed: int, rules: Rules, door: Door | None) -> None:
    """In a worker, until the pipe is closed."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)  # decoders speak of broken files by themselves
    os.dup2(quiet, 2)
    logging.disable(logging.CRITICAL)
    if sys.platform == "linux":
        watch.limit_address_space(rules.address_gib)
    if door is None:
        from .doors import bring

        bench = Bench(Path(folder), rules, bring)
        warm_up(bench)
    else:
        bench = Bench(Path(folder), rules, door)
    while True:
        try:
            number = pipe.recv()
        except EOFError:
            return
        case = make(seed, number)
        pipe.send(number)
        pipe.send(bench.attempt(case))


def warm_up(bench: Bench) -> None:
    """One case of each kind first: what is imported and allocated once is no case's doing."""
    seen: set[str] = set()
    for number in range(100):
        case = make(-1, number)
        if case.format not in seen or case.door not in seen:
            seen |= {case.format, case.door}
            bench.attempt(case)

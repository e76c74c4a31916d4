"""A step that does not end is told, whatever the main thread is stuck in, and the process that the others wait for is named."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from animeflow.train import heartbeat, watchdog
from animeflow.train.stragglers import Stragglers, slow_ranks
from animeflow.train.watchdog import Watchdog

STUCK = """
import ctypes, logging, signal, sys, threading, time
from pathlib import Path
from animeflow.train.watchdog import Watchdog

folder, how, said = Path(sys.argv[1]), sys.argv[2], []
logging.basicConfig(format="%(message)s")
logging.getLogger().handlers[0].addFilter(lambda record: said.append(record.getMessage()) or True)

def until(true):
    end = time.monotonic() + 60
    while not true() and time.monotonic() < end:
        time.sleep(0.02)

def set_free_when_told():
    until(lambda: "-- thread heartbeat" in (folder / "stacks" / "rank-3.txt").read_text())
    signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

def set_free(*_):  # by a signal of its own: one started in the background may have been told to ignore SIGINT
    raise InterruptedError

signal.signal(signal.SIGUSR1, set_free)

def stuck_here():
    if how == "python lock kept":
        ctypes.PyDLL(None).usleep(6_000_000)  # no thread of Python's runs
        return
    lock = threading.Lock()
    lock.acquire()
    try:
        threading.Thread(target=set_free_when_told).start()
        lock.acquire(timeout=120) if how == "lock" else time.sleep(120)
    except InterruptedError:
        pass

seconds = 0.5 if how == "python lock kept" else 1.5
with Watchdog(folder, rank=3, seconds=seconds, loader=lambda: "shard 7, 2 steps ahead") as dog:
    dog.beat(11, images=88)
    stuck_here()
    dog.beat(12, images=96)
    with dog.phase("looking", seconds=float("inf")):
        until(lambda: "went on" in said[-1] if said else how == "python lock kept")
    dog.beat(13, images=104)
    print(dog.stalls)
"""


@pytest.mark.parametrize("how", ["lock", "sleep", "python lock kept"])
def test_a_stuck_main_thread_is_told_once(tmp_path: Path, how: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STUCK, str(tmp_path), how], capture_output=True, text=True, timeout=300, check=True
    )
    text = (tmp_path / "stacks" / "rank-3.txt").read_text()
    assert "stuck_here" in text, "the stack of the main thread is not there"
    if how == "python lock kept":  # then nobody but faulthandler's timer could write, or count
        return
    assert done.stdout.strip() == "1"
    assert text.count("after step 11 (88 images)") == 1
    assert "loader: shard 7, 2 steps ahead" in text
    assert "-- thread heartbeat" in text
    late = [line for line in done.stderr.splitlines() if "has not ended" in line]
    assert len(late) == 1
    assert str(tmp_path / "stacks" / "rank-3.txt") in late[0]
    assert "in stuck_here" in late[0]
    assert "went on with step 12" in done.stderr


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """What the watchdog takes for the time, so that a busy machine is never late."""
    now = [0.0]
    monkeypatch.setattr(watchdog.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(watchdog.faulthandler, "dump_traceback_later", lambda *_, **__: None)  # it has its own clock
    return now


def test_steps_in_time_leave_no_file(tmp_path: Path, clock: list[float]) -> None:
    with Watchdog(tmp_path, rank=0, seconds=1.0) as dog:
        for step in range(60):
            clock[0] += 0.1
            time.sleep(0.02)  # it looks every tenth of a second
            dog.beat(step)
    assert dog.stalls == 0
    assert not (tmp_path / "stacks").exists()
    assert heartbeat.read(tmp_path)[0].state == "left"


def test_the_limit_follows_the_median_but_never_hurries(tmp_path: Path, monkeypatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(watchdog.time, "monotonic", lambda: clock[0])

    def limit_at(step_seconds: float, *, seconds: float = 600.0, steps: int = 20) -> float:
        dog = Watchdog(tmp_path, rank=0, seconds=seconds)
        for step in range(steps):
            clock[0] += step_seconds
            dog.beat(step)
        return dog.limit

    assert limit_at(0.5) == 30.0, "ten medians would be too soon"
    assert limit_at(8.0) == pytest.approx(80.0)
    assert limit_at(100.0) == 600.0, "what the user set is the latest"
    assert limit_at(0.5, seconds=5.0) == 5.0
    assert limit_at(8.0, steps=5) == 600.0, "the first steps compile"


def test_a_phase_has_its_own_time_and_is_no_part_of_a_step(tmp_path: Path, monkeypatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(watchdog.time, "monotonic", lambda: clock[0])
    dog = Watchdog(tmp_path, rank=0, seconds=600.0)
    for step in range(40):
        with dog.phase("data", seconds=60):
            assert dog.limit == 60.0
            clock[0] += 50.0
        clock[0] += 4.0
        with dog.phase("samples"):
            assert dog.limit == 600.0
            clock[0] += 500.0
        with dog.phase("paused", seconds=float("inf")):
            assert dog.limit == float("inf")
        dog.beat(step)
    assert dog.limit == pytest.approx(40.0), "ten times the four seconds that a step computes"


def test_a_pause_is_never_late(tmp_path: Path, clock: list[float]) -> None:
    with Watchdog(tmp_path, rank=0, seconds=0.2) as dog, dog.phase("paused", seconds=float("inf")):
        for _ in range(12):
            clock[0] += 0.5
            time.sleep(0.05)
    assert dog.stalls == 0


def test_nothing_is_watched_at_zero_seconds_but_the_heart_beats(tmp_path: Path) -> None:
    with Watchdog(tmp_path, rank=1, seconds=0, every=0.05) as dog:
        dog.beat(4, images=32)
        end = time.monotonic() + 120
        while (beat := heartbeat.read(tmp_path)[0]).state == "starting" and time.monotonic() < end:
            time.sleep(0.02)
    assert (beat.rank, beat.step, beat.images, beat.state) == (1, 4, 32, "step")
    assert dog.stalls == 0


def write_beat(folder: Path, rank: int, *, age: float = 0.0, step: int = 5, state: str = "step") -> None:
    (folder / "heartbeat").mkdir(exist_ok=True)
    line = {
        "rank": rank,
        "time": time.time() - age,
        "step": step,
        "images": 40,
        "state": state,
        "since": 1.0,
        "every": 10.0,
    }
    (folder / "heartbeat" / f"rank-{rank}.json").write_text(json.dumps(line))


def test_the_one_that_the_others_wait_for_is_named(tmp_path: Path) -> None:
    for rank in range(4):
        write_beat(tmp_path, rank)
    assert heartbeat.slowest(tmp_path) == []
    write_beat(tmp_path, 2, state="data")
    assert [line[:6] for line in heartbeat.slowest(tmp_path)] == ["rank 2"]
    write_beat(tmp_path, 3, step=4)
    assert [line[:6] for line in heartbeat.slowest(tmp_path)] == ["rank 3"]
    write_beat(tmp_path, 1, age=60)
    assert [line[:22] for line in heartbeat.slowest(tmp_path)] == ["rank 1 silent for 60 s"]
    write_beat(tmp_path, 9, age=600)
    assert len(heartbeat.slowest(tmp_path, processes=4)) == 1, "rank 9 is of an earlier, wider run"
    (tmp_path / "heartbeat" / "rank-0.json").write_text("{half")
    assert len(heartbeat.slowest(tmp_path)) == 2, "a file that is no beat is no reason to fail"


STOPPED = """
import datetime, logging, os, signal, sys, time
from pathlib import Path
import torch
import torch.distributed as dist
from animeflow.train.watchdog import Watchdog

logging.basicConfig(format="%(message)s")
rank, folder = int(sys.argv[2]), Path(sys.argv[1])
(folder / f"up-{rank}").write_text("")
while len(list(folder.glob("up-*"))) < 2:  # importing takes its time, and that of the collective is short
    time.sleep(0.02)
dist.init_process_group(
    "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2, timeout=datetime.timedelta(seconds=12)
)
with Watchdog(folder, rank=rank, processes=2, seconds=4, every=1.0) as dog:
    for step in range(1, 10_000):
        if step == 5 and rank == 1:
            os.kill(os.getpid(), signal.SIGSTOP)
        dist.all_reduce(torch.ones(4))
        dog.beat(step)
"""


@pytest.mark.slow
def test_a_stopped_process_is_named_by_the_other_and_the_collective_ends(tmp_path: Path) -> None:
    program = tmp_path / "stopped.py"
    program.write_text(STOPPED)
    ranks = [
        subprocess.Popen(
            [sys.executable, str(program), str(tmp_path), str(rank)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        _, told = ranks[0].communicate(timeout=300)  # its collective has 12 s
        assert ranks[0].returncode == 1, told
    finally:
        for process in ranks:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()
            if process.stderr:
                process.stderr.close()
    assert "rank 0: 'step' after step 4 has not ended" in told
    assert "rank 0: waits for rank 1 silent for" in told
    assert "all_reduce" in (tmp_path / "stacks" / "rank-0.txt").read_text()
    assert "Timed out" in told or "timed out" in told.lower()


def test_slow_ranks_are_those_above_the_median() -> None:
    assert slow_ranks([1.0, 1.0, 1.6, 1.0]) == {2: pytest.approx(1.6)}
    assert slow_ranks([1.0, 2.0]) == {1: pytest.approx(2.0)}, "of two, the slower"
    assert slow_ranks([1.0, 1.4, 1.49]) == {}
    assert slow_ranks([3.0]) == {}


def test_a_straggler_is_named_once_and_only_after_three_windows_in_a_row() -> None:
    watch, fast, slow = Stragglers(), [1.0] * 4, [1.0, 1.0, 1.0, 1.7]
    said = [watch.update(each, [0.0] * 4) for each in (slow, slow, fast, slow, slow, slow, slow)]
    assert [len(lines) for lines in said] == [0, 0, 0, 0, 0, 1, 0]
    assert said[5][0].startswith("rank 3 is slow for 3 windows: steps of 1.7 s, 1.7 x")


def test_waiting_for_data_counts_beside_the_step() -> None:
    watch = Stragglers()
    tiny = [watch.update([1.0, 1.0, 1.0], [0.001, 0.001, 0.02]) for _ in range(5)]
    assert not any(tiny), "twenty milliseconds of a second hold nobody up"
    said = [watch.update([1.0, 1.0, 1.0], [0.0, 0.4, 0.0]) for _ in range(3)]
    assert said[-1] == ["rank 1 is slow for 3 windows: waits for data of 0.4 s, where the others have none"]

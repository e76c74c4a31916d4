"""A lock has one holder among processes, threads and objects; the death of a process lets go of it; who holds it can be read."""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import filelock
import pytest

from animeflow.core import lock as locks
from animeflow.core.lock import Lock, NoLocks, passing

HOLD = """import sys, time
from animeflow.core.lock import Lock
lock = Lock(sys.argv[1], signed=True)
print(int(lock.take()), flush=True)
time.sleep(600)"""


@pytest.fixture
def holder(tmp_path: Path):
    """Another process, which holds the lock until it is killed."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "a.lock")], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"1\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_another_process_holds_it_and_is_named(tmp_path: Path, holder) -> None:
    mine = Lock(tmp_path / "a.lock", signed=True)
    assert not mine.take() and not mine.held
    assert f"process {holder.pid} on" in mine.holder()
    with passing(tmp_path / "a.lock") as free:
        assert not free
    assert (tmp_path / "a.lock").exists(), "what another one holds is not taken away"


def test_a_kill_lets_go_of_it(tmp_path: Path, holder) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    mine = Lock(tmp_path / "a.lock", signed=True)
    assert mine.take() and f"process {os.getpid()} on" in mine.holder()
    mine.release()
    assert mine.holder() == "" and not (tmp_path / "a.who").exists()


def test_who_waits_is_told_for_whom_and_gets_it_after(tmp_path: Path, holder, monkeypatch, caplog) -> None:
    monkeypatch.setattr(locks, "_PATIENCE_S", 0.05)
    mine, told = Lock(tmp_path / "a.lock", signed=True), threading.Event()

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.set()

    ear = Ear()
    locks.log.addHandler(ear)
    waiting = threading.Thread(target=mine.take, kwargs={"wait": True})
    waiting.start()
    assert told.wait(120) and not mine.held
    holder.kill()
    waiting.join()
    locks.log.removeHandler(ear)
    assert mine.held and f"held by process {holder.pid} on" in caplog.text
    mine.release()


def test_two_objects_of_one_process_take_turns_and_one_takes_twice(tmp_path: Path) -> None:
    one, other = Lock(tmp_path / "a.lock"), Lock(tmp_path / "a.lock")
    assert one.take() and one.take() and not other.take()
    thread = threading.Thread(target=one.release)  # whoever lets go of it
    thread.start()
    thread.join()
    assert other.take() and not one.held
    other.release()
    other.release()


def test_a_fork_neither_holds_it_nor_lets_go_of_it(tmp_path: Path) -> None:
    mine = Lock(tmp_path / "a.lock")
    assert mine.take()
    child = multiprocessing.get_context("fork").Process(target=mine.release)
    child.start()
    child.join()
    assert child.exitcode == 0
    assert subprocess.run([sys.executable, "-c", _ASK, str(mine.path)]).returncode == 1, "still held"
    mine.release()
    assert subprocess.run([sys.executable, "-c", _ASK, str(mine.path)]).returncode == 0


_ASK = "import sys; from animeflow.core.lock import Lock; sys.exit(not Lock(sys.argv[1]).take())"


def _count(folder: Path, rounds: int) -> None:
    for _ in range(rounds):
        lock = Lock(folder / "a.lock")
        lock.take(wait=True)
        number = int((folder / "number").read_text())
        (folder / "number").write_text(str(number + 1))
        lock.release(remove=True)


def test_nothing_is_lost_between_processes_though_the_file_comes_and_goes(tmp_path: Path) -> None:
    (tmp_path / "number").write_text("0")
    fork = multiprocessing.get_context("fork")
    children = [fork.Process(target=_count, args=(tmp_path, 40)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert (tmp_path / "number").read_text() == "120"
    assert [path.name for path in tmp_path.iterdir()] == ["number"]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_named_and_others_errors_stay(tmp_path: Path, monkeypatch, number: int) -> None:
    def refuse(self, **_: object) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    with pytest.raises(NoLocks):
        Lock(tmp_path / "a.lock").take(wait=True)
    with passing(tmp_path / "a.lock") as free:
        assert not free
    number = errno.EACCES
    with pytest.raises(PermissionError):
        Lock(tmp_path / "a.lock").take()

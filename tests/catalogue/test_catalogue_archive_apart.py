"""Work in a process of its own: what it gives and raises comes through, and its death is told, not shared."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from animeflow.catalogue.archive import video
from animeflow.catalogue.archive.apart import Died, apart
from animeflow.catalogue.archive.caps import BrokenArchive, Caps
from animeflow.image.shots import UnreadableVideo


def numbers(tell: Callable[[tuple[int, int]], None], count: int, end: str) -> None:
    for number in range(count):
        tell((number, os.getpid()))
    if end == "die":
        os.kill(os.getpid(), signal.SIGSEGV)
    if end == "exit":
        os._exit(7)
    if end == "hang":
        time.sleep(600)
    if end == "eat":
        bytearray(1 << 40)
    if end == "raise":
        raise UnreadableVideo("no frame", why="it is broken", do="make it anew")


def taken(end: str, **options: float) -> list[int]:
    given = []
    for number, process in apart(numbers, 3, end, **options):
        assert process != os.getpid()
        given.append(number)
    return given


def test_what_the_work_gives_and_raises_comes_through():
    assert taken("well") == [0, 1, 2]
    with pytest.raises(UnreadableVideo, match="no frame") as error:
        taken("raise")
    assert (error.value.why, error.value.do) == ("it is broken", "make it anew")
    left = apart(numbers, 10**9, "well")
    assert next(left)[0] == 0
    left.close()  # and the process is gone with it


@pytest.mark.parametrize(("end", "told"), [("die", "signal 11"), ("exit", "code 7")])
def test_a_death_is_told(end: str, told: str):
    with pytest.raises(Died, match=told):
        taken(end)


def test_a_hang_ends():
    work = apart(numbers, 0, "hang", quiet_s=5)
    with pytest.raises(Died, match="nothing for 5 s"):
        next(work)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is bounded on Linux only")
def test_memory_is_bounded():
    with pytest.raises(MemoryError):
        taken("eat")


def dying(tell: Callable[[int], None], path: Path, max_frames: int, max_shots: int) -> None:
    tell(5)
    os.abort()


def test_a_video_that_kills_the_decoder_is_a_broken_archive(tmp_path: Path, monkeypatch):
    (tmp_path / "a.mkv").write_bytes(b"\x1aE\xdf\xa3" + bytes(200))
    archive = video.VideoArchive(tmp_path / "a.mkv", Caps())
    assert archive.count is None
    monkeypatch.setattr(video, "_bests", dying)
    with pytest.raises(BrokenArchive, match="decoder died") as error:
        list(archive)
    assert error.value.why is not None and "signal 6" in error.value.why

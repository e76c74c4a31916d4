"""Started by a test: saves in processes that are killed, at every point where a save touches the disk and at random ones.

Argument: an empty folder. Every life is a fork of this process, which has only imported. Prints what it did as JSON.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from saved import numbered, sound

from animeflow.train.checkpoint import Checkpoints, save

BIG = 60_000  # rows: 2 MB, so that a kill finds files half written


def fork(life: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            life()
            code = 0
        finally:
            os._exit(code)
    return child


def die_at(point: int, root: Path) -> None:
    """Kill this process when it is about to touch something below `root` for the `point`th time, or to flush anything."""
    seen = 0

    def touched() -> None:
        nonlocal seen
        seen += 1
        if seen == point:
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(event: str, arguments: tuple) -> None:
        if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir") and str(root) in f"{arguments[:2]}":
            touched()

    sys.addaudithook(audit)
    os.fsync = lambda handle: touched()  # a kill loses nothing that is not flushed, and the disk is slow


def kill_at_every_point(root: Path, images: int, *, asynchronous: bool) -> int:
    """Save `images` beside checkpoints of 10 and 20 in process after process, each killed one touch of the disk later."""
    base, point = root.with_name("base"), 0
    shutil.rmtree(base, ignore_errors=True)
    for earlier in (10, 20):
        save(base, earlier, *numbered(earlier))

    def life() -> None:
        die_at(point, root)
        checkpoints = Checkpoints(root, keep_last=2, asynchronous=asynchronous)
        checkpoints.save(images, *numbered(images))
        checkpoints.wait()

    while True:
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(base, root)
        point += 1
        status = os.waitpid(fork(life), 0)[1]
        there = sound(root)
        assert len(there) >= 2 and 20 in there, f"killed at point {point}: {there}"
        assert set(there) <= {10, 20, images}
        if status == 0:
            assert there == sorted({20, images} | ({10} if images == 20 else set()))
            return point - 1
        assert status == signal.SIGKILL, f"point {point} ended with {status}"


def kill_at_random(root: Path, kills: int, draw: random.Random) -> int:
    """Save one after another in the background, killed again and again; how often that was inside a save."""
    inside = 0
    for number in range(kills):
        first = max(sound(root, size=BIG), default=0) + 1 if root.exists() else 1

        def life(first: int = first) -> None:
            checkpoints = Checkpoints(root, keep_last=2, asynchronous=True)
            for images in range(first, first + 10_000):
                checkpoints.save(images, *numbered(images, size=BIG))

        child = fork(life)
        while not list(root.glob(".*")):
            time.sleep(0.0005)
        time.sleep(draw.uniform(0, 0.2 if number % 2 else 0.005))
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        inside += bool(list(root.glob(".*.tmp")))
        there = sound(root, size=BIG)
        assert len(there) >= min(2, max(there, default=0)), there
    return inside


def main() -> None:
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    points = {
        "new": kill_at_every_point(folder / "new", 30, asynchronous=False),
        "again": kill_at_every_point(folder / "again", 20, asynchronous=True),
    }
    inside = kill_at_random(folder / "random", 12, random.Random(0))
    print(json.dumps({"points": points, "inside": inside}))


if __name__ == "__main__":
    main()

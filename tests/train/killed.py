"""Started by a test: trains in a process that is killed again and again, until it is done. Prints the kills as JSON.

Arguments: folder of the run, number of kills. Every life is a fork of this process, which has only imported, so that a life
costs milliseconds instead of the seconds of an import.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from toy import trainer

IMAGES = 480


class Probe:
    """A hook whose line shows the averaged weights."""

    name, every_images = "probe", 40

    def __call__(self, run) -> dict[str, float]:
        return {"probe/norm": float(run.learner.conv.weight.norm())}


def life(folder: Path) -> None:
    run = trainer(
        folder, images=IMAGES, hooks=[Probe()], settings={"checkpoint_every_images": 8, "keep_checkpoints": 3}
    )
    run.resume()
    run.run()


def begin(folder: Path) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            life(folder)
            code = 0
        finally:
            os._exit(code)
    return child


def saving(folder: Path) -> list[Path]:
    return list((folder / "checkpoints").glob(".*.tmp"))


def kill_while_it_trains(folder: Path, child: int, draw: random.Random, *, in_a_save: bool) -> bool:
    """Let it get a few steps further, then kill it; whether that was inside a save."""
    before = {path.name for path in (folder / "checkpoints").glob("[0-9]*")}
    further = draw.randint(1, 3)
    newer: set[str] = set()
    while len(newer) < further or (in_a_save and not saving(folder)):
        time.sleep(0.0005)
        newer |= {path.name for path in (folder / "checkpoints").glob("[0-9]*")} - before
        assert os.waitpid(child, os.WNOHANG) == (0, 0), "the run ended before it could be killed"
    time.sleep(draw.uniform(0, 0.002 if in_a_save else 0.02))
    os.kill(child, signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    return bool(saving(folder))


def main() -> None:
    torch.set_num_threads(1)
    folder, kills, draw = Path(sys.argv[1]), int(sys.argv[2]), random.Random(0)
    inside = sum(kill_while_it_trains(folder, begin(folder), draw, in_a_save=i % 2 == 0) for i in range(kills))
    assert os.waitpid(begin(folder), 0)[1] == 0
    print(json.dumps({"kills": kills, "inside_a_save": inside}))


if __name__ == "__main__":
    main()

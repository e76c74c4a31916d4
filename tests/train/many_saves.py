"""Started by a test: hundreds of saves in a process of its own, whose handles, threads and memory are those of the saves alone.

Argument: an empty folder. Prints as JSON what was told of, and what the process held after 50 saves and after all.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

import torch

from animeflow.train.checkpoint import Checkpoints


def held() -> dict[str, int]:
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return {"handles": len(os.listdir("/proc/self/fd")), "threads": threading.active_count(), "mb": resident // 2**20}


def main() -> None:
    torch.set_num_threads(1)
    os.fsync = lambda handle: None  # nothing is killed here, and the disk is slow
    told: list[Path] = []
    checkpoints = Checkpoints(
        Path(sys.argv[1]), keep_last=3, keep_every_images=1000, asynchronous=True, on_saved=told.append
    )
    tensors, early = {"learner": {"w": torch.randn(2**18)}}, {}
    for number in range(1, 301):
        checkpoints.save(30 * number, tensors, {"number": number})
        if number == 50:
            checkpoints.wait()
            early = held()
    checkpoints.close()
    print(json.dumps({"told": [int(folder.name) for folder in told], "early": early, "late": held()}))


if __name__ == "__main__":
    main()

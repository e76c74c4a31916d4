"""What a job does after a run: python scripts/launch/verdict.py RUN_FOLDER [--strikes 5]

Reads EXIT.json, which the trainer leaves, and not the exit code of torchrun, which is 1 also after a run that was asked to stop and
has saved. Leaves with 0: finished; 75: start it again; 1: do not. A run that failed is started again until it has failed so many
times in a row without a new checkpoint; one that diverged, or that only a person can mend, is not. Needs nothing but Python.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

DONE, AGAIN, STOP = 0, 75, 1
NEEDS_A_PERSON = 2  # the exit code of an error of the user's


def read(path: Path) -> dict[str, object]:
    """A JSON object, or nothing: a file that is absent or half there says nothing."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def newest_checkpoint(run: Path) -> int:
    """Images of the newest checkpoint; its folder is named by them."""
    return max((int(each.name) for each in run.glob("checkpoints/*") if each.name.isdigit()), default=0)


def judge(run: Path, *, strikes: int) -> tuple[int, str]:
    """What to do, and the sentence that says why. Counts the strike."""
    ended, count = read(run / "EXIT.json"), run / "strikes.json"
    reason = ended.get("reason", "killed before it could say why")
    if reason == "finished":
        count.unlink(missing_ok=True)
        return DONE, "finished"
    if reason == "preempted":
        count.unlink(missing_ok=True)
        return AGAIN, "asked to stop, and saved: it goes on"
    said = f"{reason}: {ended['error']}" if ended.get("error") else str(reason)
    if reason == "diverged" or ended.get("exit_code") == NEEDS_A_PERSON:
        return STOP, f"{said}. Starting it again would not help"
    images, before = newest_checkpoint(run), read(count)
    number = int(str(before.get("strikes", 0))) + 1 if before.get("images") == images else 1
    beside = count.with_name(f".strikes.{os.getpid()}")
    run.mkdir(parents=True, exist_ok=True)
    beside.write_text(json.dumps({"images": images, "strikes": number}) + "\n")
    os.replace(beside, count)
    if number >= strikes:
        return STOP, f"{said}. Failure {number} in a row at {images:,} images: that is enough (delete {count} to go on)"
    return AGAIN, f"{said}. Failure {number} of {strikes} at {images:,} images: it is tried again"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="What a job does after a run.")
    parser.add_argument("run", type=Path)
    parser.add_argument("--strikes", type=int, default=5)
    options = parser.parse_args()
    code, sentence = judge(options.run, strikes=options.strikes)
    print(f"{options.run}: {sentence}", flush=True)
    sys.exit(code)

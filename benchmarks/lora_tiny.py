"""A whole `animeflow lora DIR --tiny` on a guest of toonworld: how long it takes, whether it drew her, and what others lost.

    python benchmarks/lora_tiny.py [--guest nova] [--family NAME] [--pictures 24] [--seed 0] [--keep FOLDER] [KEY=VALUE ...]

Draws the guest's folder in a new place, runs the command as a person would type it, and prints one JSON object. The pictures are
drawn before the clock starts: a person has them already.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("animeflow", "torch", "diffusers", "transformers", "accelerate", "peft")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--guest", default="nova")
    parser.add_argument("--family", default=None)
    parser.add_argument("--pictures", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--keep", default=None, help="where to work, and leave everything; a temporary folder by default"
    )
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE", help="settings laid over the preset")
    asked = parser.parse_args()
    if asked.keep:
        place = Path(asked.keep)
        place.mkdir(parents=True, exist_ok=True)
        print(json.dumps(measure(place.resolve(), asked), indent=1))
        return
    with tempfile.TemporaryDirectory(prefix="animeflow-lora-") as place:
        print(json.dumps(measure(Path(place), asked), indent=1))


def measure(place: Path, asked: argparse.Namespace) -> dict[str, Any]:
    pictures, run = place / asked.guest, place / "run"
    animeflow(
        place, "toonworld", f"toonworld.folder={pictures}", f"toonworld.guest={asked.guest}", "toonworld.sidecars=true",
        f"toonworld.count={asked.pictures}", f"seed={asked.seed}",
    )  # fmt: skip
    family = ["--family", asked.family] if asked.family else []
    seconds = animeflow(
        place, "lora", str(pictures), "--tiny", *family, "-y", f"run={run}", f"set={place / 'set'}", f"seed={asked.seed}",
        f"evaluate.identity.guest={asked.guest}", *asked.words,
    )  # fmt: skip
    identity = read(run / "identity.json")
    before, after = identity["before"], identity["after"]
    return {
        "guest": asked.guest,
        "pictures": asked.pictures,
        "seed": asked.seed,
        "words": asked.words,
        "seconds": {"all": round(seconds, 1), **read(run / "timings.json")},
        "training": training(run),
        "identity": {"before": before["identity"], "after": after["identity"], "prompts": asked_of(after)},
        "attributes": {name: [share(before, name), share(after, name)] for name in before["fixed"]},
        "named": {"before": before["followed"], "after": after["followed"]},
        "adherence": {"before": before["adherence"], "after": after["adherence"], "lost": identity["lost"]},
        "unharmed": identity["unharmed"],
        "machine": {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()},
        "versions": {name: version(name) for name in PACKAGES},
    }


def animeflow(place: Path, *words: str) -> float:
    """Seconds that a command took, from the start of its process to its end. Its output goes to stderr."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "animeflow.app.cli", *words], cwd=place, stdout=sys.stderr, check=False
    )
    if done.returncode:
        sys.exit(f"animeflow {words[0]} ended with exit code {done.returncode}")
    return time.perf_counter() - started


def training(run: Path) -> dict[str, Any]:
    """What the record says of the training, as far as it does."""
    record = read(run / "record.json")
    found = {key: record.get(key) for key in ("images_seen", "effective_batch", "seconds", "peak_memory_gib")}
    learn = record.get("learn") or {}
    return found | {key: learn.get(key) for key in ("rank", "alpha", "targets", "parameters", "base")}


def asked_of(state: dict[str, Any]) -> int:
    return int(next(iter(state["fixed"].values()))["asked"])


def share(state: dict[str, Any], name: str) -> float:
    tally = state["fixed"][name]
    return round(tally["right"] / tally["asked"], 3)


def read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()

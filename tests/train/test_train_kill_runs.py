"""The short form of `kill_runs.py`: whole runs of both families, killed and asked to stop, end as those that nobody touched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("--family", "sd35", "--processes", "2", "--sharding", "fsdp2"),
        ("--family", "anima", "--processes", "2", "--sharding", "none"),
    ],
    ids=lambda words: "-".join(words[1::2]),
)
def test_a_run_that_is_killed_again_and_again_equals_one_that_is_not(tmp_path: Path, words: tuple[str, ...]) -> None:
    program = str(Path(__file__).parent / "kill_runs.py")
    done = subprocess.run(
        [sys.executable, program, *words, "--kills", "2", "--term", "1", "--steps", "10", "--folder", str(tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=900,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    facts = json.loads(done.stdout.splitlines()[-1])
    assert facts["differences"] == []
    assert facts["kill"] + facts["kill in a save"] == 1
    assert facts["term"] == 1

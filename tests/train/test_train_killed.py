"""A run that is killed at any moment and started again is the run that never was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from animeflow.train import checkpoint

sys.path.insert(0, str(Path(__file__).parent))
from killed import IMAGES, life


def lines_of(folder: Path) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if not key.startswith("time/")} for line in lines]


@pytest.mark.slow
def test_ten_kills_change_no_bit_and_no_line(tmp_path) -> None:
    command = [sys.executable, str(Path(__file__).parent / "killed.py"), str(tmp_path / "killed"), "10"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, timeout=600, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["kills"] == 10
    assert told["inside_a_save"] >= 3

    life(tmp_path / "whole")
    assert lines_of(tmp_path / "killed") == lines_of(tmp_path / "whole")
    seen = [line["images"] for line in lines_of(tmp_path / "killed") if "train/loss" in line]
    assert seen == list(range(16, IMAGES + 1, 16)), "each line is there once"
    folders = [checkpoint.newest(tmp_path / name / "checkpoints") for name in ("killed", "whole")]
    assert [int(folder.name) for folder in folders] == [IMAGES, IMAGES]
    (killed, its_state), (whole, other_state) = map(checkpoint.load, folders)
    assert killed.keys() == whole.keys() == {"learner", "optimizer", "ema-0.050", "ema-0.100", "ledger"}
    for group in whole:
        assert killed[group].keys() == whole[group].keys()
        assert all(torch.equal(killed[group][name], whole[group][name]) for name in whole[group]), group
    assert its_state["steps"] == other_state["steps"]
    assert its_state["telemetry"] == other_state["telemetry"]
    left = sorted(path.name for path in (tmp_path / "killed" / "checkpoints").iterdir())
    assert left == [f"{images:012d}" for images in (IMAGES - 16, IMAGES - 8, IMAGES)], "no kill left anything behind"

"""metrics.jsonl is complete whatever wandb does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from animeflow.train.tracker import Tracker

OFFLINE = """
import sys
from pathlib import Path
from animeflow.train.tracker import Tracker

tracker = Tracker(Path(sys.argv[1]), config={"optim.lr": 0.1}, wandb="offline", name="probe")
assert tracker._run is not None, "wandb did not start"
for images in (8, 16):
    tracker.log(images, images // 8, {"train/loss": float("nan") if images == 8 else 0.5})
tracker.finish()
"""


def images_logged(folder: Path) -> list[int]:
    return [json.loads(line)["images"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_wandb_offline_writes_its_files_and_needs_no_network(tmp_path) -> None:
    # In a process of its own: wandb keeps a service and the environment of its first start.
    run = tmp_path / "run"
    kept = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    home = {key: str(tmp_path / key) for key in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR")}
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE, str(run)],
        env={**kept, **nowhere, **home, "WANDB_SILENT": "true", "WANDB_MODE": "offline"},
        cwd=tmp_path,
        timeout=60,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    files = list((run / "wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 1
    assert files[0].stat().st_size > 0
    assert images_logged(run) == [8, 16]


class Failing:
    def log(self, *_: object, **__: object) -> None:
        raise ConnectionError("service is gone")

    def finish(self) -> None:
        raise ConnectionError("service is gone")


@pytest.mark.parametrize("when", ["init", "log"])
def test_metrics_are_complete_when_wandb_fails(tmp_path, monkeypatch, caplog, when) -> None:
    import wandb

    def init(**_: object) -> Failing:
        if when == "init":
            raise RuntimeError("no network")
        return Failing()

    monkeypatch.setattr(wandb, "init", init)
    with caplog.at_level("WARNING", logger="animeflow"):
        tracker = Tracker(tmp_path, wandb="online")
        for images in (8, 16, 24):
            tracker.log(images, images // 8, {"train/loss": 0.5})
        tracker.finish()
    assert images_logged(tmp_path) == [8, 16, 24]
    assert caplog.text.count("metrics.jsonl is complete") == 1

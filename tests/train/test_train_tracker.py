"""metrics.jsonl is complete whatever wandb and the disk do, and no step waits for either."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from animeflow.train.tracker import Tracker

OFFLINE = """
import sys
from pathlib import Path
from animeflow.train.tracker import Tracker

tracker = Tracker(Path(sys.argv[1]), config={"optim.lr": 0.1}, wandb="offline", name="probe")
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
        timeout=300,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    files = list((run / "wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 1
    assert files[0].stat().st_size > 0
    assert images_logged(run) == [8, 16]


class Wandb:
    """Stands for a run of wandb: what is asked of it, in which mode it was begun, and how it misbehaves."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.lines: list[int] = []
        self.finished = 0
        self.bad: dict[str, str] = {}  # "init", "online", "log" or "finish" -> "raises" or "hangs"
        self.over = threading.Event()  # ends what hangs, when the test is over

    def misbehave(self, *names: str) -> None:
        for how in (self.bad.get(name) for name in names):
            if how == "raises":
                raise ConnectionError("service is gone")
            if how == "hangs":
                self.over.wait(600)
                raise ConnectionError("ended by the test")

    def init(self, *, mode: str, **_: object) -> Wandb:
        self.begun.append(mode)
        self.misbehave("init", mode)
        return self

    def define_metric(self, name: str, *, step_metric: str) -> None:
        assert (name, step_metric) == ("*", "images"), "curves are over images, also where a run has gone back"

    def log(self, line: dict[str, float]) -> None:
        self.misbehave("log")
        self.lines.append(int(line["images"]))

    def finish(self) -> None:
        self.misbehave("finish")
        self.finished += 1


@pytest.fixture
def wandb(monkeypatch) -> Iterator[Wandb]:
    import wandb as real

    fake = Wandb()
    monkeypatch.setattr(real, "init", fake.init)
    monkeypatch.setattr(real, "teardown", lambda: None)
    yield fake
    fake.over.set()


def run_of_three(folder: Path, *, mode: str = "online", start: float = 120, finish: float = 120) -> float:
    """Log three lines and finish; returns the seconds that the three lines took. Who hangs is waited for so many seconds."""
    tracker = Tracker(folder, wandb=mode, start_seconds=start, finish_seconds=finish)  # type: ignore[arg-type]
    start = time.perf_counter()
    for images in (8, 16, 24):
        tracker.log(images, images // 8, {"train/loss": 0.5})
    seconds = time.perf_counter() - start
    tracker.finish()
    tracker.finish()
    return seconds


def test_wandb_gets_every_line_in_order(tmp_path, wandb) -> None:
    run_of_three(tmp_path)
    assert (wandb.begun, wandb.lines, wandb.finished) == (["online"], [8, 16, 24], 1)


@pytest.mark.parametrize("how", ["raises", "hangs"])
@pytest.mark.parametrize("when", ["init", "log", "finish"])
def test_metrics_are_complete_and_no_step_waits_when_wandb_fails(tmp_path, wandb, caplog, when, how) -> None:
    wandb.bad[when] = how
    with caplog.at_level("WARNING", logger="animeflow"):
        waits = (
            {"init": {"start": 0.3}, "log": {"finish": 0.3}, "finish": {"finish": 0.3}}[when] if how == "hangs" else {}
        )
        seconds = run_of_three(tmp_path, **waits)
    assert images_logged(tmp_path) == [8, 16, 24]
    assert caplog.text.count("metrics.jsonl is complete") == 1
    assert seconds < 100, "what hangs does so for ten minutes, and is waited for two at other places"


@pytest.mark.parametrize("how", ["raises", "hangs"])
def test_online_falls_back_to_offline(tmp_path, wandb, caplog, how) -> None:
    wandb.bad["online"] = how
    with caplog.at_level("WARNING", logger="animeflow"):
        run_of_three(tmp_path, start=2 if how == "hangs" else 120)  # offline has them too, and needs none
    assert (wandb.begun, wandb.lines, wandb.finished) == (["online", "offline"], [8, 16, 24], 1)
    assert caplog.text.count("keeps its files here") == 1
    assert "is complete without it" not in caplog.text


def test_a_service_that_takes_no_more_lines_is_left_alone(tmp_path, wandb, caplog, monkeypatch) -> None:
    monkeypatch.setattr("animeflow.train.tracker.MOST_LINES", 5)
    wandb.bad["log"] = "hangs"
    tracker = Tracker(tmp_path, wandb="offline", start_seconds=120, finish_seconds=120)
    for images in range(20):
        tracker.log(images, images, {})
    tracker.finish()
    assert images_logged(tmp_path) == list(range(20))
    assert caplog.text.count("has not taken") == 1


def test_a_full_disk_is_a_warning_and_its_lines_come_later(tmp_path, caplog) -> None:
    path = tmp_path / "metrics.jsonl"
    tracker = Tracker(tmp_path)
    tracker.log(8, 1, {})
    path.rename(tmp_path / "before")
    path.symlink_to("/dev/full")  # every write to it says ENOSPC
    with caplog.at_level("WARNING", logger="animeflow"):
        for images in (16, 24):
            tracker.log(images, images // 8, {})
        path.unlink()
        (tmp_path / "before").rename(path)
        for images in (32, 40):
            tracker.log(images, images // 8, {})
    assert images_logged(tmp_path) == [8, 16, 24, 32, 40]
    assert caplog.text.count("No space left") == 1
    assert caplog.text.count("written again, and complete") == 1


def test_half_a_line_is_taken_back(tmp_path, monkeypatch) -> None:
    write, full = os.write, [True]

    def little_room(handle: int, data: bytes) -> int:
        if not full[0]:
            return write(handle, data)
        if len(data) < 10:
            raise OSError(28, "No space left on device")
        return write(handle, data[:10])

    tracker = Tracker(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", little_room)
        tracker.log(8, 1, {"train/loss": 0.25})
        assert (tmp_path / "metrics.jsonl").read_text() == ""
        full[0] = False
        tracker.log(16, 2, {})
    assert images_logged(tmp_path) == [8, 16]


def test_rewinding_forgets_what_is_done_again_and_what_is_spoilt(tmp_path) -> None:
    tracker = Tracker(tmp_path)
    for images in (8, 16, 24):
        tracker.log(images, images // 8, {})
    path = tmp_path / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0] + "\x00\x00{broken\n" + lines[1] + lines[2] + '{"images": 9, "st')
    tracker.rewind(16)
    assert path.read_text() == lines[0] + lines[1]

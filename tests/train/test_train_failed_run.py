"""A run that fails leaves nobody behind: no thread that writes into its folder, none that reads on."""

from __future__ import annotations

import gc
import os
import sys
import threading
from pathlib import Path

import pytest

from animeflow.train import checkpoint

sys.path.insert(0, str(Path(__file__).parent))
from toy import Steps, trainer


class Fails:
    """A hook that fails once so many images are seen."""

    name, every_images = "fails", 8

    def __init__(self, images: int) -> None:
        self.images = images

    def __call__(self, run) -> dict[str, float]:
        if run.progress.images_seen >= self.images:
            raise RuntimeError("the hook failed")
        return {}


def test_what_is_being_written_is_whole_before_the_folder_is_given_up(tmp_path: Path, monkeypatch) -> None:
    run, failed, replace = trainer(tmp_path, images=80, hooks=[Fails(32)]), threading.Event(), os.replace
    release, writing = run.claim.release, []

    def slow(source, target) -> None:
        """The checkpoint of 24 images is begun before the step that fails, and is at work until that has failed."""
        if Path(target).name == f"{24:012d}":
            failed.wait(120)
        replace(source, target)

    def released() -> None:
        writing.extend(thread.name for thread in threading.enumerate() if thread.name == "checkpoint")
        release()

    monkeypatch.setattr(os, "replace", slow)
    monkeypatch.setattr(run.claim, "release", released)
    unfreeze = gc.unfreeze  # the first that is done after a failure
    monkeypatch.setattr(gc, "unfreeze", lambda: (failed.set(), unfreeze()))
    with pytest.raises(RuntimeError, match="the hook failed"):
        run.run()
    assert writing == []
    assert [int(folder.name) for folder in checkpoint.list_folders(tmp_path / "checkpoints")] == [24]


class Away(Steps):
    """After three steps the store does not answer until it is closed."""

    def __init__(self, **options) -> None:
        super().__init__(**options)
        self.closed, self.given_up = threading.Event(), False

    def __iter__(self):
        for number, step in enumerate(super().__iter__()):
            if number == 3:
                self.given_up = not self.closed.wait(60)
            yield step

    def close(self) -> None:
        self.closed.set()


def test_a_feed_that_waits_for_its_store_does_not_hold_up_a_run_that_failed(tmp_path: Path) -> None:
    run = trainer(tmp_path, images=80, hooks=[Fails(16)])
    run.steps = Away(batch=8, micro_batch=8)
    with pytest.raises(RuntimeError, match="the hook failed"):
        run.run()
    assert run.steps.closed.is_set() and not run.steps.given_up
    assert not [thread.name for thread in threading.enumerate() if thread.name == "feed"]

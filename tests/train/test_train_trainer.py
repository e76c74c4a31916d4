"""The loop is exact: accumulation, resume and the number of processes change nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from animeflow.core.errors import AnimeflowError, ConfigError
from animeflow.train import checkpoint
from animeflow.train.trainer import Settings

sys.path.insert(0, str(Path(__file__).parent))
from toy import trainer


def final(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    newest = checkpoint.newest(folder / "checkpoints")
    assert newest is not None
    return checkpoint.load(newest)[0]


def same(a, b, *, exact: bool) -> None:
    assert a.keys() == b.keys()
    for group in a:
        assert a[group].keys() == b[group].keys()
        for name in a[group]:
            if exact:
                assert torch.equal(a[group][name], b[group][name]), name
            else:
                torch.testing.assert_close(a[group][name], b[group][name], rtol=2e-5, atol=2e-6, msg=name)


def test_two_micro_batches_of_four_train_as_one_of_eight(tmp_path) -> None:
    trainer(tmp_path / "whole", images=80, micro_batch=8).run()
    trainer(tmp_path / "halves", images=80, micro_batch=4).run()
    same(final(tmp_path / "whole"), final(tmp_path / "halves"), exact=False)


def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(tmp_path) -> None:
    trainer(tmp_path / "whole", images=96).run()
    stopped = trainer(tmp_path / "parts", images=96)
    stopped.settings = Settings(
        **{**vars(stopped.settings), "images": 48}
    )  # as a kill after the checkpoint at 48 leaves it
    stopped.run()
    again = trainer(tmp_path / "parts", images=96)
    assert again.resume()
    assert again.progress.images_seen == 48
    again.run()
    same(final(tmp_path / "whole"), final(tmp_path / "parts"), exact=True)
    lines = [json.loads(line) for line in (tmp_path / "parts/metrics.jsonl").read_text().splitlines()]
    seen = [line["images"] for line in lines if "train/loss" in line]
    assert seen == sorted(set(seen)), "no line is there twice"


def test_training_lowers_the_loss(tmp_path) -> None:
    trainer(tmp_path, images=1600).run()
    losses = [json.loads(line)["train/loss"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < 0.8 * losses[0]


def test_bf16_autocast_keeps_float32_masters_and_optimizer_state(tmp_path) -> None:
    run = trainer(tmp_path, images=16, precision="bf16")
    run.run()
    assert {p.dtype for p in run.learner.parameters()} == {torch.float32}
    assert {v.dtype for v in final(tmp_path)["optimizer"].values()} == {torch.float32}


def test_fp16_is_refused_with_the_way_out() -> None:
    with pytest.raises(ConfigError, match=r"train\.precision=bf16"):
        Settings(images=1, precision="fp16")


def test_a_non_finite_step_is_skipped_and_its_pictures_named(tmp_path, caplog) -> None:
    run = trainer(tmp_path, images=24, poison=2)
    with caplog.at_level("WARNING", logger="animeflow"):
        run.run()
    assert run.progress.skipped_steps == 1
    assert run.progress.images_seen == 24
    assert all(torch.isfinite(p).all() for p in run.learner.parameters())
    assert "not finite" in caplog.text


def test_a_run_folder_of_other_settings_is_not_continued(tmp_path) -> None:
    trainer(tmp_path, images=24, identity={"optim.lr": 0.01}).run()
    with pytest.raises(ConfigError, match=r"optim.lr: 0.01 there, 0.02 here"):
        trainer(tmp_path, images=24, identity={"optim.lr": 0.02}).resume()


def test_hooks_see_the_average_and_leave_the_weights(tmp_path) -> None:
    seen = []

    class Hook:
        name, every_images = "probe", 16

        def __call__(self, run):
            seen.append((run.progress.images_seen, run.learner.conv.weight.clone()))
            return {"probe/x": 1.0}

    with_hook = trainer(tmp_path / "a", images=48, hooks=[Hook()])
    with_hook.run()
    trainer(tmp_path / "b", images=48).run()
    assert [images for images, _ in seen] == [0, 16, 32, 48]
    same(final(tmp_path / "a"), final(tmp_path / "b"), exact=True)
    torch.testing.assert_close(seen[-1][1], final(tmp_path / "a")["ema"]["conv.weight"])


class TestCheckpoints:
    def test_a_broken_newest_is_passed_over(self, tmp_path) -> None:
        run = trainer(tmp_path, images=48)
        run.run()
        folders = checkpoint.list_folders(tmp_path / "checkpoints")
        assert [f.name for f in folders] == ["000000000024", "000000000048"]
        data = bytearray((folders[-1] / "learner.safetensors").read_bytes())
        data[-1] ^= 1
        (folders[-1] / "learner.safetensors").write_bytes(data)
        assert "not the file" in checkpoint.verify(folders[-1])
        assert checkpoint.newest(tmp_path / "checkpoints") == folders[0]
        with pytest.raises(AnimeflowError, match="broken"):
            checkpoint.load(folders[-1])

    def test_only_the_newest_are_kept(self, tmp_path) -> None:
        for images in (1, 2, 3, 4):
            checkpoint.save(tmp_path, images, {"x": {"w": torch.ones(1)}}, {}, keep=2)
        assert [f.name for f in checkpoint.list_folders(tmp_path)] == ["000000000003", "000000000004"]

    def test_nothing_is_pickled(self, tmp_path) -> None:
        trainer(tmp_path, images=8).run()
        folder = checkpoint.newest(tmp_path / "checkpoints")
        assert {path.suffix for path in folder.iterdir()} == {".json", ".safetensors"}
        assert load_file(folder / "ema.safetensors")


def _launch(processes: int, *arguments: str) -> None:
    """Through torchrun, on the CPU with gloo."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    subprocess.run(
        [*command, str(Path(__file__).parent / "two_processes.py"), *arguments],
        check=True,
        env=environment,
        timeout=240,
        capture_output=True,
    )


@pytest.mark.slow
def test_two_processes_train_as_one_and_resume_bit_for_bit(tmp_path) -> None:
    trainer(tmp_path / "one", images=48, micro_batch=4).run()
    _launch(2, str(tmp_path / "two"), "48", "48")
    same(final(tmp_path / "one"), final(tmp_path / "two"), exact=False)
    _launch(2, str(tmp_path / "parts"), "48", "24")
    _launch(2, str(tmp_path / "parts"), "48", "48")
    same(final(tmp_path / "two"), final(tmp_path / "parts"), exact=True)

"""The loop is exact: accumulation, resume and the number of processes change nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from animeflow.core.errors import AnimeflowError, ConfigError
from animeflow.train import checkpoint
from animeflow.train.telemetry import Telemetry
from animeflow.train.tracker import Tracker
from animeflow.train.trainer import Settings, _same_run

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


def lines_of(folder: Path) -> list[dict]:
    """The lines of a run without what a clock measured."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if not key.startswith("time/")} for line in lines]


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
    lines = lines_of(tmp_path / "parts")
    seen = [line["images"] for line in lines if "train/loss" in line]
    assert seen == sorted(set(seen)), "no line is there twice"


def test_a_resumed_run_with_a_rate_per_part_is_the_uninterrupted_one(tmp_path) -> None:
    options = {"images": 96, "rates": {"text": 1e-3}}
    trainer(tmp_path / "whole", **options).run()
    stopped = trainer(tmp_path / "parts", **options)
    stopped.settings = Settings(**{**vars(stopped.settings), "images": 48})
    stopped.run()
    again = trainer(tmp_path / "parts", **options)
    assert again.resume() and again.progress.images_seen == 48
    again.run()
    same(final(tmp_path / "whole"), final(tmp_path / "parts"), exact=True)
    assert lines_of(tmp_path / "whole")[-1] == lines_of(tmp_path / "parts")[-1]
    trainer(tmp_path / "one_rate", images=96).run()
    assert not torch.equal(
        final(tmp_path / "one_rate")["learner"]["text.weight"], final(tmp_path / "whole")["learner"]["text.weight"]
    )


def test_every_part_follows_the_schedule_from_its_own_peak_and_is_named_in_log_and_lines(tmp_path, caplog) -> None:
    with caplog.at_level("INFO", logger="animeflow"):
        run = trainer(tmp_path, images=32, rates={"text": 1e-3}, settings={"log_every_images": 8})
        run.run()
    for line in lines_of(tmp_path):
        factor = min(1, (line["images"] - 8 + 1) / 16)  # of the step that ended here, with 16 images of warm-up
        assert line["optim/lr"] == pytest.approx(1e-2 * factor)
        assert line["optim/lr/text"] == pytest.approx(1e-3 * factor)
    assert "all others: 148 parameters at a peak learning rate of 0.01" in caplog.text
    assert "text: 16 parameters at a peak learning rate of 0.001" in caplog.text
    assert "frozen" not in caplog.text


def test_a_frozen_part_keeps_its_bits_and_costs_no_moment_and_no_average(tmp_path, caplog) -> None:
    with caplog.at_level("INFO", logger="animeflow"):
        run = trainer(tmp_path, images=48, frozen=["text"])
        before = {name: value.clone() for name, value in run.learner.state_dict().items()}
        run.run()
    saved = final(tmp_path)
    for name, value in before.items():
        assert torch.equal(saved["learner"][name], value) == name.startswith("text")
    assert run.learner.text.weight.grad is None
    assert set(saved["ema"]) == {"conv.weight", "conv.bias"}
    assert {name.split("/")[0] for name in saved["optimizer"]} == {"conv.weight", "conv.bias"}
    assert "frozen: 16 parameters" in caplog.text
    again = trainer(tmp_path, images=96, frozen=["text"])
    assert again.resume()
    again.run()
    assert torch.equal(again.learner.text.weight, before["text.weight"])


def test_a_run_resumed_between_two_log_lines_logs_what_the_uninterrupted_one_does(tmp_path) -> None:
    trainer(tmp_path / "whole", images=96, poison=2).run()
    killed = trainer(tmp_path / "parts", images=96, poison=2)
    save = killed.save

    def save_and_die() -> None:
        save()
        raise KeyboardInterrupt

    killed.save = save_and_die
    with pytest.raises(KeyboardInterrupt):
        killed.run()
    again = trainer(tmp_path / "parts", images=96, poison=2)
    assert again.resume()
    assert again.progress.images_seen == 24, "the line at 32 is made of steps before and after"
    again.run()
    assert lines_of(tmp_path / "parts") == lines_of(tmp_path / "whole")
    assert [line["images"] for line in lines_of(tmp_path / "parts")] == [16, 32, 48, 64, 80, 96]


def test_a_non_finite_loss_is_counted_and_harms_no_later_average(tmp_path) -> None:
    trainer(tmp_path, images=64, poison=2).run()
    lines = lines_of(tmp_path)
    assert sum(line["train/nonfinite_images"] for line in lines) == 1
    assert all(line["train/loss"] is not None and line["train/loss_ema"] is not None for line in lines)


def test_a_window_without_one_finite_loss_has_no_mean_and_leaves_the_average(tmp_path) -> None:
    telemetry = Telemetry(torch.device("cpu"))
    for loss in (1.0, float("nan"), 3.0):
        telemetry.add(torch.tensor([loss]), torch.tensor([0.5]), global_images=2000, wait_s=0.0)
        values = telemetry.flush(lambda total: total)
        if loss != loss:
            assert values["train/loss"] != values["train/loss"]
            assert values["train/loss_ema"] == 1.0
    assert values["train/loss_ema"] == pytest.approx(2.0)


def test_a_new_run_does_not_begin_in_the_folder_of_another(tmp_path) -> None:
    trainer(tmp_path, images=96).run()
    with pytest.raises(ConfigError, match=r"checkpoints up to 96 images[^$]*train\.resume=true"):
        trainer(tmp_path, images=48).start_anew()
    assert [f.name for f in checkpoint.list_folders(tmp_path / "checkpoints")] == ["000000000072", "000000000096"]


def test_a_new_run_forgets_the_lines_of_one_that_left_no_checkpoint(tmp_path) -> None:
    Tracker(tmp_path).log(16, 2, {"train/loss": 5.0})
    run = trainer(tmp_path, images=16)
    run.start_anew()
    run.run()
    assert [line["images"] for line in lines_of(tmp_path)] == [16]
    assert lines_of(tmp_path)[0]["train/loss"] != 5.0


def test_a_rhythm_of_0_means_only_at_the_end(tmp_path) -> None:
    trainer(tmp_path, images=64, settings={"log_every_images": 0, "checkpoint_every_images": 0}).run()
    assert [line["images"] for line in lines_of(tmp_path)] == [64]
    assert [int(f.name) for f in checkpoint.list_folders(tmp_path / "checkpoints")] == [64]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("images", 0),
        ("clip", -1.0),
        ("clip", float("nan")),
        ("ema_half_life_images", 0),
        ("log_every_images", -1),
        ("checkpoint_every_images", -1),
        ("keep_checkpoints", 0),
        ("device", "gpu"),
        ("precision", "int8"),
    ],
)
def test_a_setting_that_makes_no_run_is_refused_by_name(name, value) -> None:
    with pytest.raises(ConfigError) as caught:
        Settings(**{"images": 1, name: value})
    assert caught.value.where == f"train.{name}"
    assert caught.value.do


def test_cuda_without_a_device_is_refused_instead_of_training_on_the_cpu(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="no CUDA device"):
        trainer(tmp_path, images=8, settings={"device": "cuda"})


def test_gradient_checkpointing_changes_no_weight_and_no_line(tmp_path) -> None:
    runs = {}
    for name, on in (("kept", False), ("again", True)):
        runs[name] = trainer(tmp_path / name, images=48, settings={"gradient_checkpointing": on})
        runs[name].run()
    assert runs["again"].learner.computed == 2 * runs["kept"].learner.computed
    same(final(tmp_path / "kept"), final(tmp_path / "again"), exact=True)
    assert lines_of(tmp_path / "kept") == lines_of(tmp_path / "again")


def test_time_in_hooks_and_saves_is_not_training_time(tmp_path, monkeypatch) -> None:
    class Slow:
        name, every_images = "slow", 16

        def __call__(self, run):
            time.sleep(0.3)
            return {}

    run = trainer(tmp_path, images=48, hooks=[Slow()])
    started = time.perf_counter()
    run.run()
    whole = time.perf_counter() - started
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert all(line["time/hooks_seconds"] >= 0.3 for line in lines)
    training = sum(16 / line["time/images_per_second"] for line in lines)
    assert training < whole - 4 * 0.3, "hooks ran at 0, 16, 32 and 48 images"


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

    def test_the_one_just_written_stays_also_among_ones_of_more_images(self, tmp_path) -> None:
        for images in (72, 96, 48):
            checkpoint.save(tmp_path, images, {"x": {"w": torch.ones(1)}}, {}, keep=2)
        assert [int(f.name) for f in checkpoint.list_folders(tmp_path)] == [48, 96]

    @pytest.mark.parametrize("harm", ["cut", "manifest"])
    def test_a_broken_one_is_not_counted_among_those_kept(self, tmp_path, harm) -> None:
        for images in (1, 2):
            checkpoint.save(tmp_path, images, {"x": {"w": torch.ones(1)}}, {}, keep=2)
        newest = checkpoint.list_folders(tmp_path)[-1]
        if harm == "cut":
            (newest / "x.safetensors").write_bytes(b"")
        else:
            (newest / "MANIFEST.json").write_text("{")
        checkpoint.save(tmp_path, 3, {"x": {"w": torch.ones(1)}}, {}, keep=2)
        assert [int(f.name) for f in checkpoint.list_folders(tmp_path)] == [1, 3]

    def test_what_a_killed_save_left_is_cleared_and_what_it_moved_aside_comes_back(self, tmp_path) -> None:
        folder = checkpoint.save(tmp_path, 5, {"x": {"w": torch.ones(1)}}, {})
        (tmp_path / ".000000000009.4194304-0123abcd.tmp").mkdir()
        folder.rename(tmp_path / ".000000000005.4194304-0123abcd.old")
        assert checkpoint.newest(tmp_path) == folder
        assert [path.name for path in tmp_path.iterdir()] == ["000000000005"]

    def test_nothing_is_pickled(self, tmp_path) -> None:
        trainer(tmp_path, images=8).run()
        folder = checkpoint.newest(tmp_path / "checkpoints")
        assert {path.suffix for path in folder.iterdir()} == {".json", ".safetensors"}
        assert load_file(folder / "ema.safetensors")


def _launch(processes: int, *arguments: str) -> None:
    """Through torchrun, on the CPU with gloo."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(
        [*command, str(Path(__file__).parent / "two_processes.py"), *arguments],
        env=environment,
        timeout=240,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.mark.slow
def test_two_processes_train_as_one_and_resume_bit_for_bit(tmp_path) -> None:
    trainer(tmp_path / "one", images=48, micro_batch=4).run()
    _launch(2, str(tmp_path / "two"), "48", "48")
    same(final(tmp_path / "one"), final(tmp_path / "two"), exact=False)
    _launch(2, str(tmp_path / "parts"), "48", "24")
    _launch(2, str(tmp_path / "parts"), "48", "48")
    same(final(tmp_path / "two"), final(tmp_path / "parts"), exact=True)


def test_a_setting_that_was_off_and_is_no_longer_written_makes_no_other_run(tmp_path) -> None:
    _same_run({"lr": 1.0, "dropout": 0.0}, {"lr": 1.0}, tmp_path)
    with pytest.raises(ConfigError, match=r"dropout: 0\.1 there, None here"):
        _same_run({"lr": 1.0, "dropout": 0.1}, {"lr": 1.0}, tmp_path)

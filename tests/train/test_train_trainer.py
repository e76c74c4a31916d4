"""The loop is exact: accumulation, rates, precision and hooks change what they should and nothing else."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from animeflow.core.errors import ConfigError
from animeflow.train import checkpoint
from animeflow.train.settings import Settings

sys.path.insert(0, str(Path(__file__).parent))
from run_files import final, lines_of, same
from toy import trainer


def test_two_micro_batches_of_four_train_as_one_of_eight(tmp_path) -> None:
    trainer(tmp_path / "whole", images=80, micro_batch=8).run()
    trainer(tmp_path / "halves", images=80, micro_batch=4).run()
    same(final(tmp_path / "whole"), final(tmp_path / "halves"), exact=False)


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
    assert set(saved["ema-0.100"]) == {"conv.weight", "conv.bias"}
    assert {name.split("/")[0] for name in saved["optimizer"]} == {"conv.weight", "conv.bias"}
    assert "frozen: 16 parameters" in caplog.text
    again = trainer(tmp_path, images=96, frozen=["text"])
    assert again.resume()
    again.run()
    assert torch.equal(again.learner.text.weight, before["text.weight"])


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
        ("sharding", "fsdp"),
        ("activation_memory", "some"),
        ("keep_every_images", -1),
        ("replicas", 0),
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


def test_updates_of_a_hundred_thousandth_of_a_weight_are_not_lost_under_bf16(tmp_path) -> None:
    """A bf16 weight of 1 moves in steps of 1/128: a thousand updates of 1e-5 would leave it where it was."""
    run = trainer(tmp_path, images=800, precision="bf16", rates={"conv": 1e-5})
    with torch.no_grad():
        run.learner.conv.bias.fill_(1.0)
    run.run()
    moved = (run.learner.conv.bias - 1).abs()
    assert (moved > 1e-4).all() and (moved < 1 / 256).all()
    assert torch.equal(run.learner.conv.bias.bfloat16(), torch.ones(4, dtype=torch.bfloat16)), (
        "as bf16 nothing has moved"
    )


def test_fp16_is_refused_with_the_way_out() -> None:
    with pytest.raises(ConfigError, match=r"train\.precision=bf16"):
        Settings(images=1, precision="fp16")


def test_the_ledger_of_a_run_counts_every_visit(tmp_path) -> None:
    trainer(tmp_path, images=144).run()  # six epochs of 24 pictures, of which a chunk of 8 takes parts
    table = pq.read_table(tmp_path / "ledger.parquet").to_pydict()
    assert table["times_seen"] == [6] * 24
    assert len(set(table["uid"])) == 24


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
    torch.testing.assert_close(seen[-1][1], final(tmp_path / "a")["ema-0.100"]["conv.weight"])

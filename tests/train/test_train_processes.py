"""The number of processes, and how a model is divided among them, change nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from animeflow.train import checkpoint
from animeflow.train.settings import Guard

sys.path.insert(0, str(Path(__file__).parent))
from run_files import final, incidents_of, lines_of, same
from toy import trainer


def _launch(processes: int, *arguments: str) -> str:
    """Through torchrun, on the CPU with gloo. Returns what was logged."""
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
    return done.stderr


def _two(folder: Path, images: int, stop: int, **options: object) -> str:
    return _launch(2, str(folder), str(images), str(stop), json.dumps({"sharding": "none", **options}))


@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["none", "fsdp2"])
def test_two_processes_train_as_one_and_resume_bit_for_bit(tmp_path, sharding) -> None:
    """Gradients are accumulated over two micro-batches on each."""
    trainer(tmp_path / "one", images=48, micro_batch=4).run()
    _two(tmp_path / "two", 48, 48, sharding=sharding)
    same(final(tmp_path / "one"), final(tmp_path / "two"), exact=False)
    _two(tmp_path / "parts", 48, 24, sharding=sharding)
    _two(tmp_path / "parts", 48, 48, sharding=sharding)
    same(final(tmp_path / "two"), final(tmp_path / "parts"), exact=True)


@pytest.mark.slow
def test_a_process_that_computes_slower_than_the_other_is_named(tmp_path) -> None:
    """Whole steps take both equally long: they meet in each."""
    told = _two(tmp_path / "slow", 160, 160, slow=0.05)
    assert "rank 1 is slow for 3 windows: steps of" in told
    assert "rank 0 is slow" not in told


@pytest.mark.slow
def test_two_sharded_processes_in_bf16_train_as_one_within_its_rounding(tmp_path) -> None:
    trainer(tmp_path / "one", images=48, precision="bf16").run()
    _two(tmp_path / "two", 48, 48, sharding="fsdp2", precision="bf16")
    one, two = lines_of(tmp_path / "one"), lines_of(tmp_path / "two")
    for a, b in zip(one, two, strict=True):
        assert a["train/loss"] == pytest.approx(b["train/loss"], rel=2e-3)
        assert a["train/grad_norm"] == pytest.approx(b["train/grad_norm"], rel=2e-2)
    assert final(tmp_path / "two")["learner"]["conv.weight"].dtype == torch.float32


@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["none", "fsdp2"])
def test_two_processes_skip_and_go_back_as_one_does(tmp_path, sharding) -> None:
    options = {"poison": 20, "loud": {45: 6.0, 60: 6.0, 61: 6.0, 62: 6.0}}
    more = {"guard": {"spike": "rollback", "max_share": 0.5}, "checkpoint_every_images": 40}
    settings = {**more, "guard": Guard(**more["guard"])}
    trainer(tmp_path / "one", images=600, settings=settings, **options).run()
    _two(tmp_path / "two", 600, 600, sharding=sharding, **options, **more)
    for told, expected in zip(incidents_of(tmp_path / "two"), incidents_of(tmp_path / "one"), strict=True):
        assert (told["step"], told["kind"], told["skipped"]) == (
            expected["step"],
            expected["kind"],
            expected["skipped"],
        )
        assert {p["uid"] for p in told["pictures"]} == {p["uid"] for p in expected["pictures"]}, "of both processes"
    one, two = final(tmp_path / "one"), final(tmp_path / "two")
    assert torch.equal(one["ledger"]["seen"], two["ledger"]["seen"])
    state = checkpoint.load_state(checkpoint.newest(tmp_path / "two" / "checkpoints"))
    assert state["progress"]["rollbacks"] == 1
    for name, weight in one["learner"].items():
        torch.testing.assert_close(two["learner"][name], weight, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes_and_another_sharding(tmp_path) -> None:
    """One process, then two sharded ones, then one again: the same batches, noise and counts; weights equal to rounding."""
    trainer(tmp_path / "one", images=72, micro_batch=4).run()
    first = trainer(tmp_path / "elastic", images=72, micro_batch=4)
    first.settings = replace(first.settings, images=24)
    first.run()
    _two(tmp_path / "elastic", 72, 48, sharding="fsdp2")
    last = trainer(tmp_path / "elastic", images=72, micro_batch=4)
    assert last.resume() and last.progress.images_seen == 48
    last.run()
    one, elastic = final(tmp_path / "one"), final(tmp_path / "elastic")
    same(one, elastic, exact=False)
    assert torch.equal(one["ledger"]["seen"], elastic["ledger"]["seen"]), "every picture as often"
    torch.testing.assert_close(one["ledger"]["scores"], elastic["ledger"]["scores"], rtol=1e-3, atol=1e-3)
    # At what t every picture was seen: exactly, since no number of processes changes a draw.
    assert torch.equal(one["ledger"]["counts"], elastic["ledger"]["counts"])

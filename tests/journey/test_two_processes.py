"""`scripts/train.py` under a launcher: two processes train what one trains, and a run that was cut goes on bit for bit."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from animeflow.train import checkpoint

ROOT = Path(__file__).parents[2]
IMAGES, CUT = 32, 16


# A whole backbone that learns; and one of which a part is frozen, with a LoRA on it that has its own rate.
FAMILIES = {
    "sd35": ("experiment=toonworld_smoke",),
    "anima": ("experiment=anima_toonworld_smoke", "model.adapter=lora", "optim.rates.adapter=1e-3"),
}


def words(folder: Path, run: str, family: tuple[str, ...]) -> tuple[str, ...]:
    return (
        *family, "name=pair", f"set={folder}/set", f"run={folder}/{run}", "toonworld.count=48",
        "toonworld.workers=0", "catalogue.workers=0", "data.shard.workers=0", "data.cache.variants=2", "model.codec=null",
        "evaluate.oracle=null", "data.loader.batch=8", "data.loader.micro_batch=4", "optim.schedule.warmup_images=8",
        f"train.images={IMAGES}", f"train.checkpoint_every_images={CUT}", "train.log_every_images=8", "train.threads=1",
        "train.samples.every_images=0", f"train.validate.every_images={CUT}", "train.validate.images=4",
    )  # fmt: skip


def launch(*arguments: str) -> None:
    """As on a machine with two devices, on the CPU."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, str(ROOT / "scripts" / "train.py"), *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=600,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]


def final(run: Path) -> dict[str, Tensor]:
    """Weights, averages and moments of the newest checkpoint."""
    folder = checkpoint.newest(run / "checkpoints")
    assert folder is not None
    tensors, state = checkpoint.load(folder)
    assert state["progress"]["images_seen"] == IMAGES
    return {f"{group}/{name}": tensor for group, named in tensors.items() for name, tensor in named.items()}


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_two_processes_train_as_one_and_resume_bit_for_bit(
    animeflow: Callable[..., str], tmp_path: Path, family: str
) -> None:
    for verb in ("toonworld", "catalogue", "shard", "cache", "train"):
        animeflow(verb, *words(tmp_path, "one", FAMILIES[family]))
    launch(*words(tmp_path, "two", FAMILIES[family]))
    one, two = final(tmp_path / "one"), final(tmp_path / "two")
    assert one.keys() == two.keys()
    weights = [name for name in one if not name.startswith("optimizer/")]
    for name in weights:
        torch.testing.assert_close(
            two[name], one[name], rtol=1e-5, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )

    shutil.rmtree(checkpoint.newest(tmp_path / "two" / "checkpoints"))
    launch(*words(tmp_path, "two", FAMILIES[family]))
    again = final(tmp_path / "two")
    assert again.keys() == two.keys() and all(torch.equal(again[name], two[name]) for name in two)


@pytest.mark.slow
def test_a_process_that_dies_is_started_again_and_changes_nothing(
    animeflow: Callable[..., str], tmp_path: Path
) -> None:
    """torchrun starts all processes anew when one dies; they go on from the newest checkpoint, with the same command."""
    for verb in ("toonworld", "catalogue", "shard", "cache"):
        animeflow(verb, *words(tmp_path, "whole", FAMILIES["sd35"]))
    more = ("train.checkpoint_every_images=8", "train.sharding=fsdp2", "train.timeout_seconds=300")
    launch(*words(tmp_path, "whole", FAMILIES["sd35"]), *more)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=2"),
            *(str(Path(__file__).parent / "dies_once.py"), str(tmp_path / "died")),
            *words(tmp_path, "again", FAMILIES["sd35"]),
            *more,
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"},
        timeout=600,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert (tmp_path / "died").is_file(), "one of them did die"
    assert "resumed from" in done.stderr
    whole, again = final(tmp_path / "whole"), final(tmp_path / "again")
    assert whole.keys() == again.keys() and all(torch.equal(whole[name], again[name]) for name in whole)

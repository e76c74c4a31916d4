"""Every kind of optimizer goes through a checkpoint to the bit: what it does after a resume is what it would have done without."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from torch import nn
from toy import Learner, Steps

from animeflow.core.errors import DataError
from animeflow.optim.adamw import AdamW
from animeflow.optim.adamw8bit import AdamW8bit
from animeflow.optim.muon import Muon
from animeflow.optim.prodigy import Prodigy
from animeflow.optim.schedule import Constant
from animeflow.recipe.velocity import Velocity
from animeflow.train import checkpoint, sharded
from animeflow.train.optimizer_state import blank_optimizer, flatten_optimizer, unflatten_optimizer
from animeflow.train.settings import Settings
from animeflow.train.tracker import Tracker
from animeflow.train.trainer import Trainer

OPTIMS = {
    "adamw": AdamW(lr=1e-2, weight_decay=0.1),
    "muon": Muon(lr=1e-2, weight_decay=0.1),
    "prodigy": Prodigy(),
    "adamw8bit": AdamW8bit(lr=1e-2, weight_decay=0.1),
}
PACKAGE = {"prodigy": "prodigyopt", "adamw8bit": "bitsandbytes"}


def optim_of(kind: str):
    if importlib.util.find_spec(PACKAGE.get(kind, "torch")) is None:
        pytest.skip(f"{PACKAGE[kind]} is not installed")
    return OPTIMS[kind]


class Net(nn.Module):
    """A tensor of more than 4096 numbers, a vector, a matrix of zeros, and a number without an axis."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.large, self.zero = nn.Linear(80, 60), nn.Linear(6, 4, bias=False)
        self.gain = nn.Parameter(torch.ones(()))
        nn.init.zeros_(self.zero.weight)

    def blocks(self) -> list[nn.Module]:
        return [self]


def made(kind: str, seed: int, steps: range = range(0)):
    net = Net(seed)
    optimizer = optim_of(kind).build(net)
    take(net, optimizer, steps)
    return net, optimizer, {p: name for name, p in net.named_parameters()}


def take(net: nn.Module, optimizer, steps: range) -> None:
    for step in steps:
        draw = torch.Generator().manual_seed(step)
        for p in net.parameters():
            p.grad = torch.randn(p.shape, generator=draw) + 0.5
        optimizer.step()


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(
        one[k].dtype == other[k].dtype and torch.equal(one[k], other[k]) for k in one
    )


@pytest.mark.parametrize("through", ["in place", "whole"])
@pytest.mark.parametrize("kind", OPTIMS)
def test_a_run_with_a_checkpoint_in_it_is_the_run_without(tmp_path, kind, through) -> None:
    straight, never, names = made(kind, 0, range(9))
    net, optimizer, its = made(kind, 0, range(5))
    flat = flatten_optimizer(optimizer, its)
    weights = {name: p.detach().clone() for name, p in net.named_parameters()}
    folder = checkpoint.save(tmp_path, 5, {"optimizer": flat, "learner": weights}, {})
    kept = {key: value.clone() for key, value in flat.items()}
    # An optimizer that has been somewhere else already, as after a rollback.
    other, restored, theirs = made(kind, 7, range(20, 23))
    other.load_state_dict(weights)
    if through == "in place":
        blank_optimizer(restored, theirs, sharded.describe(folder)["optimizer"])
        filled = flatten_optimizer(restored, theirs)
        sharded.read_into(folder, {"optimizer": filled})
        unflatten_optimizer(restored, theirs, filled)
    else:
        restored.state.clear()
        unflatten_optimizer(restored, theirs, checkpoint.load(folder)[0]["optimizer"])
    assert same(flatten_optimizer(restored, theirs), kept)
    take(other, restored, range(5, 9))
    for p, q in zip(straight.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q)
    assert same(flatten_optimizer(restored, theirs), flatten_optimizer(never, names))


def test_numbers_are_kept_to_the_bit_and_come_back_as_numbers(tmp_path) -> None:
    _, optimizer, names = made("prodigy", 0, range(4))
    flat = flatten_optimizer(optimizer, names)
    assert {key for key in flat if key.startswith(":")} == {
        f":{group}/{key}" for group in (0, 1) for key in ("d", "d_max", "d_numerator", "k")
    }
    assert flat[":0/d"].dtype == torch.float64 and flat[":0/k"].dtype == torch.int64
    d = optimizer.param_groups[0]["d"]
    assert float(torch.tensor(d, dtype=torch.float32)) != d, "float32 would not do"
    _, other, theirs = made("prodigy", 1)
    unflatten_optimizer(other, theirs, flat)
    for ours, its in zip(optimizer.param_groups, other.param_groups, strict=True):
        for key in ("d", "d_max", "d_numerator", "k"):
            assert type(its[key]) is type(ours[key]) and its[key] == ours[key]
    assert {type(state["step"]) for state in other.state.values()} == {int}


def test_a_state_without_groups_is_read_as_ever() -> None:
    _, optimizer, names = made("adamw", 0, range(2))
    flat = flatten_optimizer(optimizer, names)
    assert not any(key.startswith(":") for key in flat)
    assert {key.rsplit("/")[1] for key in flat} == {"step", "exp_avg", "exp_avg_sq"}
    _, prodigy, theirs = made("prodigy", 0)
    with pytest.raises(DataError, match="'d_min' of a group 0 that this one lacks"):
        unflatten_optimizer(prodigy, theirs, {":0/d_min": torch.tensor(1.0)})
    with pytest.raises(DataError, match="of a group 5"):
        unflatten_optimizer(prodigy, theirs, {":5/d": torch.tensor(1.0)})


@pytest.mark.parametrize("kind", ["prodigy", "adamw8bit"])
def test_a_stopped_run_goes_on_as_if_it_never_stopped(tmp_path, kind) -> None:
    optim = optim_of(kind)
    whole = run_of(tmp_path / "whole", optim, images=72)
    whole.run()
    for images in (24, 48, 72):
        part = run_of(tmp_path / "parts", optim, images=images)
        part.resume()
        part.run()
        part.close()
    for (name, p), q in zip(whole.learner.named_parameters(), part.learner.parameters(), strict=True):
        assert torch.equal(p, q), name
    ours = flatten_optimizer(part.optimizer, part.names)
    assert same(ours, flatten_optimizer(whole.optimizer, whole.names))
    if kind == "prodigy":
        lines = [line for line in _lines(tmp_path / "whole") if "optim/d_lr" in line]
        assert lines[-1]["optim/d"] == pytest.approx(whole.optimizer.param_groups[0]["d"], abs=1e-8)
        assert lines[0]["optim/d_lr"] < lines[-1]["optim/d_lr"] == lines[-1]["optim/d"], "warm by then"
    whole.close()


def run_of(folder: Path, optim, *, images: int) -> Trainer:
    rhythm = {"log_every_images": 8, "checkpoint_every_images": 24, "device": "cpu", "watchdog_seconds": 0}
    return Trainer(
        learner=Learner(),
        recipe=lambda learner: Velocity(learner, seed=3),
        steps=Steps(batch=8, micro_batch=8),
        optim=optim,
        schedule=Constant(warmup_images=16),
        settings=Settings(images=images, precision="fp32", **rhythm),
        folder=folder,
        tracker=Tracker(folder),
        identity={"seed": 3},
    )


def _lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]

"""Masks and prior as a config says them: checked before anything runs, and no other run where they are off."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from animeflow.app.check import check_values
from animeflow.app.compose import compose
from animeflow.app.verbs.train import run_identity
from animeflow.app.wiring import recipe
from animeflow.core.batch import Batch
from animeflow.core.conditioning import Conditioning
from animeflow.core.errors import ConfigError
from animeflow.train.run_state import require_same_run

DOP = ["learn=lora", "recipe.prior.kind=dop", "recipe.prior.weight=0.5"]


@pytest.mark.parametrize("name", ["velocity", "anima", "kohya_sd3_compat"])
def test_every_recipe_has_them_and_is_without_a_prior(name):
    node = compose([f"recipe={name}"])["recipe"]
    assert node["mask"] == {"background": 0.1} and node["prior"] == {"kind": "none", "weight": 1.0}
    made = recipe(compose([f"recipe={name}"]), patch=2)(nn.Identity())
    assert (made.background, made.prior_weight, made.base) == (0.1, 0.0, None)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["learn=lora", "recipe.prior.kind=dip"], "unknown kind 'dip'"),
        (["recipe.prior.kind=dop"], "no base to compare with"),
        ([*DOP, "train.routing.share=0.5"], "sees all tokens"),
        (["recipe.prior.weight=-1"], "a number of 0 or above"),
        (["recipe.mask.background=1.5"], "a share between 0 and 1"),
        (["recipe.mask.background=grey"], "a share between 0 and 1"),
        (["data.shard.masks=on"], "unknown value"),
    ],
)
def test_what_cannot_be_is_said_before_anything_runs(wrong, said):
    with pytest.raises(ConfigError, match=said):
        check_values(compose(wrong))


def test_a_run_from_before_them_is_the_same_run():
    """And one that asks for them is another."""
    now = run_identity(compose([]))
    before = {key: value for key, value in now.items() if "mask" not in key and "prior" not in key}
    require_same_run(before, now, Path("run"))
    for other in (["recipe.mask.background=0.2"], DOP, ["data.cache.prior=true"]):
        with pytest.raises(ConfigError, match=r"mask|prior"):
            require_same_run(before, run_identity(compose(other)), Path("run"))
    require_same_run(before, run_identity(compose(["recipe.prior.weight=3", "data.shard.masks=auto"])), Path("run"))


def test_the_base_is_the_learner_without_its_additions():
    """By peft's own layers: B of zero is no distance, another B is one, and the layers are on again after."""
    from peft import LoraConfig, inject_adapter_in_model

    class Learner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.net = nn.Linear(4, 4)

        def forward(self, x, t_B, cond):
            return self.net(x.movedim(1, -1)).movedim(-1, 1) + cond["word"].reshape(-1, 1, 1, 1)

    net = inject_adapter_in_model(LoraConfig(r=2, target_modules=["net"]), Learner())
    words, classes = (Conditioning({"word": torch.full((3,), value)}) for value in (1.0, 2.0))
    batch = Batch(torch.randn(3, 4, 6, 6), words, (1, 2, 3), (0, 0, 0), 3, prior=classes)
    asked = recipe(compose(DOP), patch=2)(net)
    report = asked.loss(batch)
    assert asked.prior_weight == 0.5 and not bool(report.parts["prior"].any())
    report.loss.backward()
    moving = {name: p for name, p in net.named_parameters() if "lora" in name}
    assert all(p.requires_grad and p.grad is not None for p in moving.values())
    with torch.no_grad():
        next(p for name, p in moving.items() if "lora_B" in name).fill_(0.1)
    assert bool((asked.loss(batch).parts["prior"] > 0).all())

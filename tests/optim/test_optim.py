"""Schedules are functions of images; AdamW is torch's."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn

from animeflow.core.errors import ConfigError
from animeflow.optim.adamw import AdamW
from animeflow.optim.groups import parameter_groups
from animeflow.optim.schedule import WSD, Constant


def test_warm_up_is_linear_and_reaches_one() -> None:
    schedule = Constant(warmup_images=100)
    factors = [schedule.factor(i, 1000) for i in range(0, 200, 10)]
    assert factors[0] > 0, "the first step must move"
    assert factors[5] == pytest.approx(0.51)
    assert factors[10:] == [1.0] * 10


def test_wsd_is_flat_then_falls_to_its_floor_without_rising() -> None:
    schedule = WSD(warmup_images=10, decay_share=0.2, final=0.1)
    factors = [schedule.factor(i, 1000) for i in range(1001)]
    assert set(factors[10:800]) == {1.0}
    assert all(a >= b for a, b in itertools.pairwise(factors[800:]))
    assert factors[1000] == pytest.approx(0.1)
    assert schedule.factor(900, 1000) == pytest.approx(1 - 0.9 * math.sqrt(0.5))


def test_every_trainable_parameter_is_in_exactly_one_group_and_only_matrices_decay() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    module[2].weight.requires_grad_(False)
    optimizer = AdamW(lr=1e-3, weight_decay=0.1).build(module)
    grouped = [p for group in optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in grouped} == {id(p) for p in module.parameters() if p.requires_grad}
    assert len(grouped) == len({id(p) for p in grouped})
    assert all(
        (group["weight_decay"] == 0.1) == (p.ndim > 1) for group in optimizer.param_groups for p in group["params"]
    )


class TwoParts(nn.Module):
    """Two equal linear layers whose gradients are equal, and a third that is deeper in one of them."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.adapter, self.adapter_norm = (
            nn.Linear(3, 3),
            nn.ModuleDict({"block": nn.Linear(3, 3)}),
            nn.Linear(3, 3),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x) + self.adapter["block"](x) + self.adapter_norm(x)


def first_updates(rates: dict[str, float], **options) -> dict[str, torch.Tensor]:
    module = TwoParts()
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    optimizer = AdamW(lr=1e-3, weight_decay=0.0, rates=rates, **options).build(module)
    module(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    return {name: p.detach() - before[name] for name, p in module.named_parameters()}


def test_the_first_updates_of_two_parts_have_the_ratio_of_their_rates() -> None:
    moved = first_updates({"adapter": 2e-5})
    for kind in ("weight", "bias"):
        size, its = moved[f"net.{kind}"].abs().mean(), moved[f"adapter.block.{kind}"].abs().mean()
        assert (its / size).item() == pytest.approx(2e-5 / 1e-3, rel=1e-2)
        assert moved[f"adapter_norm.{kind}"].abs().mean().item() == pytest.approx(size.item(), rel=1e-2)


def test_the_longest_prefix_of_whole_components_decides() -> None:
    module = TwoParts()
    names = {parameter: name for name, parameter in module.named_parameters()}
    groups = parameter_groups(module, lr=1e-3, weight_decay=0.1, rates={"adapter": 1e-4, "adapter.block.weight": 1e-5})
    found = {
        names[p]: (group["part"], group["peak_lr"], group["weight_decay"]) for group in groups for p in group["params"]
    }
    assert found == {
        "net.weight": ("", 1e-3, 0.1),
        "net.bias": ("", 1e-3, 0.0),
        "adapter.block.weight": ("adapter.block.weight", 1e-5, 0.1),
        "adapter.block.bias": ("adapter", 1e-4, 0.0),
        "adapter_norm.weight": ("", 1e-3, 0.1),
        "adapter_norm.bias": ("", 1e-3, 0.0),
    }


@pytest.mark.parametrize(
    ("rates", "told"),
    [
        ({"adaptor": 1e-5}, r"begins with 'adaptor' \(did you mean 'adapter'\?\)"),
        ({"adapter.blocks": 1e-5}, r"did you mean 'adapter.block'"),
        ({"adapt": 1e-5}, "begin with one of: net, adapter, adapter_norm"),
        ({"net": 1e-5}, "no trainable parameter is left for 'net'.*all of its 2 tensors are frozen"),
        ({"adapter": 1e-5, "adapter.block": 1e-6}, "left for 'adapter'.*a longer prefix takes them"),
    ],
)
def test_a_rate_that_would_act_on_nothing_is_refused(rates, told) -> None:
    module = TwoParts()
    module.net.requires_grad_(False)
    with pytest.raises(ConfigError, match=f"(?s){told}") as caught:
        AdamW(rates=rates).build(module)
    assert caught.value.where == "optim.rates"


def test_a_learner_without_a_trainable_parameter_is_refused() -> None:
    with pytest.raises(ConfigError, match="every parameter of the learner is frozen"):
        AdamW().build(TwoParts().requires_grad_(False))


def test_frozen_weights_may_be_bf16_and_do_not_move() -> None:
    module = TwoParts()
    module.net.requires_grad_(False).bfloat16()
    kept = module.net.weight.clone()
    optimizer = AdamW().build(module)
    for p in module.parameters():
        p.grad = torch.ones_like(p) if p.requires_grad else None
    optimizer.step()
    assert torch.equal(module.net.weight, kept)


def test_an_update_that_bf16_would_lose_survives_in_the_float32_master() -> None:
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, 1.0)
    optimizer = AdamW(lr=1e-5, weight_decay=0.0).build(module)
    module.weight.grad = torch.ones_like(module.weight)
    optimizer.step()
    assert module.weight.item() == pytest.approx(1 - 1e-5, abs=1e-7)
    assert module.weight.item() != 1.0
    assert torch.tensor(1 - 1e-5).bfloat16().item() == 1.0, "the same update in bf16 vanishes"
    state = optimizer.state[module.weight]
    assert state["exp_avg_sq"].shape == module.weight.shape, "the second moment is elementwise"


def test_bf16_weights_are_refused() -> None:
    with pytest.raises(ConfigError, match="not float32"):
        AdamW().build(nn.Linear(2, 2).bfloat16())


@pytest.mark.parametrize(
    ("build", "where"),
    [
        (lambda: AdamW(lr=0), "optim.lr"),
        (lambda: AdamW(rates={"net": 0.0}), "optim.rates.net"),
        (lambda: AdamW(rates={"net": "1e-4"}), "optim.rates.net"),
        (lambda: AdamW(betas=(0.9, 1.0)), "optim.betas"),
        (lambda: AdamW(betas=(-0.1, 0.9)), "optim.betas"),
        (lambda: AdamW(betas=(0.9,)), "optim.betas"),
        (lambda: AdamW(eps=0), "optim.eps"),
        (lambda: AdamW(weight_decay=-0.1), "optim.weight_decay"),
        (lambda: Constant(warmup_images=-1), "optim.schedule.warmup_images"),
        (lambda: WSD(warmup_images=-1), "optim.schedule.warmup_images"),
        (lambda: WSD(decay_share=1.1), "optim.schedule.decay_share"),
        (lambda: WSD(final=-0.1), "optim.schedule.final"),
    ],
)
def test_settings_that_cannot_train_are_refused_by_name(build, where) -> None:
    with pytest.raises(ConfigError) as caught:
        build()
    assert caught.value.where == where
    assert caught.value.do


def test_an_embedding_is_not_decayed_and_a_matrix_is():
    """With no gradient AdamW moves a weight by its decay alone."""
    module = nn.ModuleDict({"words": nn.Embedding(3, 2), "layer": nn.Linear(2, 2, bias=False)})
    before = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    optimizer = AdamW(lr=0.1, weight_decay=0.5).build(module)
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert torch.equal(module["words"].weight, before["words.weight"])
    torch.testing.assert_close(module["layer"].weight.detach(), before["layer.weight"] * (1 - 0.1 * 0.5))

"""Schedules are functions of images; AdamW is torch's; the average is an average."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn

from animeflow.core.errors import ConfigError
from animeflow.optim.adamw import AdamW
from animeflow.optim.ema import EMA
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


def test_average_follows_its_half_life_and_gives_the_weights_back() -> None:
    module = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(module.weight)
    ema = EMA(module, half_life_images=100, ramp=1e9)
    nn.init.ones_(module.weight)
    for images in range(10, 110, 10):
        ema.update(images, 10)
    assert ema.state_dict()["weight"].item() == pytest.approx(0.5)
    with ema.applied():
        assert module.weight.item() == pytest.approx(0.5)
    assert module.weight.item() == 1.0


@pytest.mark.parametrize(
    ("build", "where"),
    [
        (lambda: AdamW(lr=0), "optim.lr"),
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

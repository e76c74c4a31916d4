"""The up matrices of a LoRA may learn faster than all else, and vectors of it are not decayed."""

from __future__ import annotations

import pytest
import torch
from additions import copies, give_gradients, learns, with_additions
from torch import nn

from animeflow.core.errors import ConfigError
from animeflow.optim.adamw import AdamW
from animeflow.optim.groups import parameter_groups, tell
from animeflow.optim.muon import Muon


@pytest.mark.parametrize("ratio", [1.0, 4.0, 0.5])
def test_the_first_update_of_b_is_so_many_times_that_of_a(ratio) -> None:
    net = with_additions()
    before = copies(net)
    optimizer = AdamW(lr=1e-3, weight_decay=0.0, lora_plus=ratio).build(net)
    give_gradients(net, 0)
    optimizer.step()
    moved = {name: (p.detach() - before[name]).abs().mean().item() for name, p in learns(net).items()}
    assert len(moved) == 4
    for name, size in moved.items():
        assert size == pytest.approx(1e-3 * (ratio if "lora_B" in name else 1), rel=1e-3)


def test_it_multiplies_the_rates_of_parts_and_is_told() -> None:
    net = with_additions()
    groups = parameter_groups(net, lr=1e-3, weight_decay=0.1, rates={"mlp": 1e-4}, lora_plus=4)
    names = {p: name for name, p in net.named_parameters()}
    peaks = {names[p].removesuffix(".animeflow.weight"): group["peak_lr"] for group in groups for p in group["params"]}
    assert peaks == pytest.approx({"attn.lora_A": 1e-3, "attn.lora_B": 4e-3, "mlp.lora_A": 1e-4, "mlp.lora_B": 4e-4})
    told = "\n".join(tell(net, groups))
    assert "all others: 80 parameters at a peak learning rate of 0.001" in told
    assert "B of LoRA: 60 parameters at a peak learning rate of 0.004" in told
    assert "mlp, B of LoRA: 40 parameters at a peak learning rate of 0.0004" in told


def test_switched_off_the_groups_are_those_of_any_learner() -> None:
    groups = parameter_groups(with_additions(), lr=1e-3, weight_decay=0.1, rates={})
    assert [(group["part"], group["peak_lr"], len(group["params"])) for group in groups] == [("", 1e-3, 4)]
    assert tell(with_additions(), groups)[0] == "all: 240 parameters at a peak learning rate of 0.001"


def test_matrices_decay_and_lengths_of_rows_do_not() -> None:
    net = with_additions(dora=True)
    convolution = nn.Module()  # peft keeps a convolution's lengths with four axes
    convolution.lora_magnitude_vector = nn.ParameterDict({"animeflow": nn.Parameter(torch.ones(1, 4, 1, 1))})
    net.conv = convolution
    before = copies(net)
    optimizer = AdamW(lr=0.1, weight_decay=0.5).build(net)
    for p in learns(net).values():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for name, p in learns(net).items():
        kept = 1.0 if "magnitude" in name else 1 - 0.1 * 0.5
        torch.testing.assert_close(p.detach(), before[name] * kept)
    assert sum("magnitude" in name for name in before) == 3


@pytest.mark.parametrize("kind", [AdamW, Muon])
def test_a_ratio_that_acts_on_nothing_is_refused(kind) -> None:
    net = nn.Module()
    net.block = nn.Linear(4, 4)
    net.blocks = lambda: [net.block]
    with pytest.raises(ConfigError, match="no low-rank addition learns") as caught:
        kind(lora_plus=4.0).build(net)
    assert caught.value.where == "optim.lora_plus"
    for ratio in (0, -1):
        with pytest.raises(ConfigError, match="not above 0"):
            kind(lora_plus=ratio)

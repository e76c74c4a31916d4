"""Which layers compute in 8 bits, and what is said where they cannot. What they gain needs a GPU."""

from __future__ import annotations

import sys

import pytest
import torch
from speed import FAMILIES, batch, network, on_meta, passes
from torch import nn

from animeflow.core.errors import ConfigError, MissingExtra
from animeflow.model import eight_bit
from animeflow.model.eight_bit import eight_bit_linears, use_eight_bits

CPU = torch.device("cpu")


# SD3.5: nine in each of 24 blocks, three more of the text in all but the last, four of the second attention in 13.
@pytest.mark.parametrize(
    ("family", "flavour", "layers"), [("sd35", "medium", 24 * 9 + 23 * 3 + 13 * 4), ("anima", "base", 28 * 10)]
)
def test_the_layers_of_tokens_are_chosen_and_no_others(family, flavour, layers):
    backbone = on_meta(family, flavour)
    names = eight_bit_linears(backbone)
    inside = {name for name, _ in backbone.named_modules() if ".transformer_blocks." in name}
    assert set(names) < inside and not [name for name in names if "norm" in name]
    modules = dict(backbone.named_modules())
    assert all(not side % 16 for name in names for side in modules[name].weight.shape)
    assert len(names) == layers


@pytest.mark.parametrize("family", FAMILIES)
def test_odd_and_narrow_layers_stay(family):
    backbone = on_meta(family)
    narrow = eight_bit_linears(backbone, smallest=256)
    wide = eight_bit_linears(backbone, smallest=16)
    assert set(narrow) < set(wide)
    block = backbone.blocks()[0]
    block.odd = nn.Linear(500, 512, device="meta")
    assert eight_bit_linears(backbone, smallest=16) == wide


def test_a_device_without_8_bits_is_refused(monkeypatch):
    backbone = on_meta("sd35")
    with pytest.raises(ConfigError, match="need a CUDA device, and this is a cpu"):
        use_eight_bits(backbone, device=CPU)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA A100")
    with pytest.raises(ConfigError, match=r"A100 has no 8-bit products \(compute capability 8.0\)"):
        use_eight_bits(backbone, device=torch.device("cuda"))


def test_without_torchao_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchao", None)
    monkeypatch.setitem(sys.modules, "torchao.float8", None)
    with pytest.raises(MissingExtra, match=r"animeflow\[fp8\]"):
        use_eight_bits(on_meta("sd35", "medium"), device=CPU, emulate=True)


def test_a_network_that_gains_nothing_is_told():
    small = on_meta("anima")
    assert min(small.blocks()[0].attn1.to_q.weight.shape) < eight_bit.SMALLEST
    small.net.transformer_blocks = nn.ModuleList()
    with pytest.raises(ConfigError, match="no linear layer that gains"):
        use_eight_bits(small, device=CPU, emulate=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_emulated_8_bits_round_and_keep_names(family, monkeypatch):
    pytest.importorskip("torchao")
    monkeypatch.setattr(eight_bit, "SMALLEST", 64)
    inputs = batch(family, pictures=3)
    exact, _ = passes(network(family), inputs)
    backbone = network(family)
    names = list(backbone.state_dict())
    assert use_eight_bits(backbone, device=CPU, emulate=True)
    rounded, gradients = passes(backbone, inputs)
    assert 0 < (rounded - exact).norm() < 0.1 * exact.norm()
    assert list(backbone.state_dict()) == names
    assert {gradient.dtype for gradient in gradients.values()} == {torch.float32}

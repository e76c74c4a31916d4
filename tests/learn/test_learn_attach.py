"""Additions on a frozen base: they start as nothing, they alone learn, they can be switched off, and their tensors are the same."""

from __future__ import annotations

import pytest
import torch
from lora_networks import FAMILIES, small, stir, velocity

from animeflow.core.errors import ConfigError, DataError
from animeflow.learn import attach
from animeflow.learn.merge import Weighted
from animeflow.learn.settings import LoraSettings
from animeflow.learn.state import add_to, load_lora_state, lora_state


@pytest.fixture(params=FAMILIES)
def family(request):
    return small(request.param)


def settings(**options) -> LoraSettings:
    return LoraSettings(**{"rank": 3, "base_dtype": "fp32"} | options)


def test_a_fresh_addition_changes_nothing(family) -> None:
    before = velocity(family)
    attach.attach(family, family.backbone(), settings(), seed=0)
    assert torch.equal(velocity(family), before)


def test_only_additions_learn_and_in_float32(family) -> None:
    backbone = family.backbone()
    layers = attach.attach(family, backbone, settings(), seed=0)
    attach.freeze_into(backbone, torch.bfloat16)
    learning = {name: p for name, p in backbone.named_parameters() if p.requires_grad}
    assert len(learning) == 2 * len(layers)
    assert all(".lora_" in name and p.dtype == torch.float32 for name, p in learning.items())
    frozen = [p for block in backbone.blocks() for p in block.parameters() if not p.requires_grad]
    assert frozen and all(p.dtype == torch.bfloat16 for p in frozen)
    inside = {id(p) for block in backbone.blocks() for p in block.parameters()}
    assert all(p.dtype == torch.float32 for p in backbone.parameters() if id(p) not in inside)


def test_gradients_reach_every_addition_and_nothing_else(family) -> None:
    backbone = family.backbone()
    attach.attach(family, backbone, settings(), seed=0)
    stir(backbone)
    x, cond = family.random_inputs(2, height=64, width=64, tokens=family.text_tokens)
    backbone.train()(x, torch.tensor([0.3, 0.8]), cond).square().mean().backward()
    for name, parameter in backbone.named_parameters():
        if "blocks.1.attn.add_q_proj" in name:  # nobody reads what the last block's text asks for
            continue
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
        else:
            assert parameter.grad is None, name


def test_what_a_layer_starts_with_is_decided_by_its_name(family) -> None:
    attach.attach(family, family.backbone(), settings(), seed=7)
    other = small(family.name)
    attach.attach(other, other.backbone(), settings(targets="attention"), seed=7)
    all_layers, few = lora_state(family.backbone(), family), lora_state(other.backbone(), other)
    assert 0 < len(few) < len(all_layers)
    assert all(torch.equal(few[name].down, all_layers[name].down) for name in few)
    downs = [addition.down for addition in all_layers.values()]
    assert not torch.equal(downs[0], downs[1])
    bound = downs[0].shape[1] ** -0.5
    assert 0.8 * bound < downs[0].abs().max() <= bound


@pytest.mark.parametrize("dora", [False, True])
def test_switched_off_it_is_the_base(family, dora: bool) -> None:
    before = velocity(family)
    backbone = family.backbone()
    attach.attach(family, backbone, settings(dora=dora), seed=0)
    stir(backbone)
    changed = velocity(family)
    assert (changed - before).abs().max() > 1e-3
    with attach.adapters_off(backbone):
        assert torch.equal(velocity(family), before)
    assert torch.equal(velocity(family), changed)
    assert all(p.requires_grad for name, p in backbone.named_parameters() if ".lora_" in name)


@pytest.mark.parametrize("dora", [False, True])
def test_its_tensors_added_to_the_weights_are_the_same_network(family, dora: bool) -> None:
    backbone = family.backbone()
    attach.attach(family, backbone, settings(dora=dora, alpha=1.5, ranks={"*to_q": 5}), seed=0)
    stir(backbone)
    state, plain = lora_state(backbone, family), small(family.name)
    add_to(plain.backbone(), plain, [Weighted("a", state)])
    torch.testing.assert_close(velocity(plain), velocity(family), rtol=1e-5, atol=1e-5)
    assert {addition.rank for addition in state.values()} == {3, 5}


def test_half_the_weight_is_half_the_way(family) -> None:
    backbone = family.backbone()
    attach.attach(family, backbone, settings(), seed=0)
    stir(backbone)
    state = lora_state(backbone, family)
    base, half, whole = small(family.name), small(family.name), small(family.name)
    add_to(half.backbone(), half, [Weighted("a", state, 0.5)])
    add_to(whole.backbone(), whole, [Weighted("a", state, 0.5), Weighted("b", state, 0.5)])
    for (name, a), b, c in zip(
        base.backbone().named_parameters(), half.backbone().parameters(), whole.backbone().parameters(), strict=True
    ):
        torch.testing.assert_close(b, (a + c) / 2, msg=name)


def test_what_is_read_can_be_put_back_under_another_scale(family) -> None:
    attach.attach(family, family.backbone(), settings(rslora=True), seed=0)
    stir(family.backbone())
    state = lora_state(family.backbone(), family)
    assert all(addition.scale == pytest.approx(3**0.5) for addition in state.values())
    other = small(family.name)
    attach.attach(other, other.backbone(), settings(), seed=1)
    load_lora_state(other.backbone(), other, state)
    torch.testing.assert_close(velocity(other), velocity(family), rtol=1e-5, atol=1e-5)
    third = small(family.name)
    layers = attach.attach(third, third.backbone(), attach.continued(settings(), state), seed=1)
    load_lora_state(third.backbone(), third, state)
    assert set(layers) == set(state)
    torch.testing.assert_close(velocity(third), velocity(family), rtol=1e-5, atol=1e-5)


def test_other_layers_or_ranks_are_refused_before_anything_is_written(family) -> None:
    attach.attach(family, family.backbone(), settings(), seed=0)
    before, state = velocity(family), dict(lora_state(family.backbone(), family))
    other = small(family.name)
    attach.attach(other, other.backbone(), settings(rank=4), seed=0)
    wrong = lora_state(other.backbone(), other)
    name = next(iter(state))
    for bad in (
        {**state, name: wrong[name]},
        {k: v for k, v in state.items() if k != name},
        {**state, "what": state[name]},
    ):
        with pytest.raises(DataError):
            load_lora_state(family.backbone(), family, bad)
    with pytest.raises(DataError, match="layers unknown"):
        add_to(family.backbone(), family, [Weighted("a", {**state, "what": state[name]})])
    assert torch.equal(velocity(family), before)


def test_a_rank_of_zero_leaves_a_layer_out(family) -> None:
    layers = attach.attach(family, family.backbone(), settings(ranks={"*to_k": 0}), seed=0)
    assert layers and not any(name.endswith("to_k") for name in layers)


@pytest.mark.parametrize("options", [{"targets": "atention"}, {"targets": ("*nothing*",)}, {"ranks": {"*nothing*": 2}}])
def test_names_that_fit_nothing_are_errors(family, options) -> None:
    with pytest.raises(ConfigError):
        attach.attach(family, family.backbone(), settings(**options), seed=0)
    assert not any(".lora_" in name for name, _ in family.backbone().named_parameters())


def test_nothing_is_added_twice(family) -> None:
    attach.attach(family, family.backbone(), settings(), seed=0)
    with pytest.raises(ConfigError, match="already"):
        attach.attach(family, family.backbone(), settings(), seed=0)

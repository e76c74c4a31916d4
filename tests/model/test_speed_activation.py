"""What blocks keep for the backward pass: the same gradients in every mode, less memory from mode to mode, counted two ways."""

from __future__ import annotations

import copy

import pytest
import torch
from speed import FAMILIES, batch, network, on_meta, passes
from torch._functorch import config as compiler

from animeflow.core.errors import ConfigError
from animeflow.model.activation import keep_activations
from animeflow.model.activation_size import activation_bytes


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_the_same_bit_for_bit_in_every_mode(family):
    backbone, inputs = network(family), batch(family, pictures=2, masked=True)
    names = list(backbone.state_dict())
    velocity, gradients = passes(backbone, inputs)
    gradients = {name: gradient.clone() for name, gradient in gradients.items()}
    for mode in ("selective", "full", "budget", "none"):
        keep_activations(backbone, mode)
        again, ours = passes(backbone, inputs)
        assert torch.equal(again, velocity), mode
        assert all(torch.equal(ours[name], gradient) for name, gradient in gradients.items()), mode
        assert list(backbone.state_dict()) == names


@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
@pytest.mark.parametrize("family", FAMILIES)
def test_each_mode_keeps_less(family, autocast):
    kept = {}
    _, _, cond = batch(family, pictures=1)
    for mode in ("none", "selective", "full"):
        backbone = on_meta(family)
        keep_activations(backbone, mode)
        kept[mode] = activation_bytes(
            backbone, latents=(1, 16, 16, 24), conditioning=cond, autocast=autocast
        ).activations
    assert 0 < kept["full"] < 0.7 * kept["selective"] < 0.7 * 0.8 * kept["none"]


@pytest.mark.parametrize("family", FAMILIES)
def test_bytes_are_those_that_autograd_saves(family):
    """Counted by another hand: what is packed for the backward pass of a real network, without weights and inputs."""
    backbone, (x, t, cond) = network(family), batch(family, pictures=2)
    given = {tensor.untyped_storage().data_ptr() for tensor in (*backbone.parameters(), *backbone.buffers(), x, t)}
    given |= {tensor.untyped_storage().data_ptr() for tensor in cond.values()}
    saved = {}

    def pack(tensor):
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        velocity = backbone(x, t, cond)
    expected = sum(s.nbytes() for pointer, s in saved.items() if pointer not in given)
    del velocity
    meta = copy.deepcopy(backbone).to("meta")
    found = activation_bytes(meta, latents=tuple(x.shape), conditioning=cond, autocast=None)
    assert found.weights == 0
    assert found.activations == pytest.approx(expected, rel=0.02)


def test_memory_grows_with_the_pictures_and_copies_of_weights_do_not():
    backbone = on_meta("sd35")
    one, four = (
        activation_bytes(backbone, latents=(n, 16, 16, 16), conditioning=batch("sd35", pictures=n)[2]) for n in (1, 4)
    )
    assert four.activations == pytest.approx(4 * one.activations, rel=0.02)
    assert four.weights == one.weights > 0


@pytest.mark.slow
def test_a_megapixel_needs_what_was_counted_before():
    """11.84 GB for SD3.5-Medium with 333 tokens of text and 18.30 GB for Anima with 512, both in bf16 without autocast."""
    for family, flavour, expected in (("sd35", "medium", 11.84e9), ("anima", "base", 18.30e9)):
        backbone = on_meta(family, flavour).bfloat16()
        _, _, cond = batch(family, pictures=1, tokens=333 if family == "sd35" else 100)
        wide = {"text": 4096, "pooled": 2048, "qwen": 1024}
        shapes = {n: (*v.shape[:-1], wide[n]) if n in wide else v.shape for n, v in cond.items()}
        cond = type(cond)({n: torch.empty(shapes[n], dtype=cond[n].dtype, device="meta") for n in cond})
        kept = activation_bytes(backbone, latents=(1, 16, 128, 128), conditioning=cond, autocast=None)
        assert kept.activations == pytest.approx(expected, rel=0.01)


def test_nothing_in_a_forward_pass_waits_for_the_numbers():
    """On the meta device a tensor that turns into a number or a bool is an error."""
    for family in FAMILIES:
        x, t, cond = batch(family, pictures=2, masked=True)
        meta = type(cond)({name: tensor.to("meta") for name, tensor in cond.items()})
        assert on_meta(family)(x.to("meta"), t.to("meta"), meta).shape == x.shape


def test_a_budget_is_told_to_the_compiler_and_taken_back():
    backbone = on_meta("sd35")
    keep_activations(backbone, "budget", budget=0.3)
    assert compiler.activation_memory_budget == 0.3
    keep_activations(backbone, "none")
    assert compiler.activation_memory_budget == 1.0


def test_what_is_impossible_is_said():
    backbone = on_meta("sd35")
    with pytest.raises(ConfigError, match="did you mean 'selective'"):
        keep_activations(backbone, "selectiv")
    with pytest.raises(ConfigError, match="no share"):
        keep_activations(backbone, "budget", budget=0.0)
    with pytest.raises(ConfigError, match="meta device"):
        activation_bytes(network("sd35"), latents=(1, 16, 8, 8), conditioning=batch("sd35", pictures=1)[2])

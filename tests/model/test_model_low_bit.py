"""Frozen layers in 8 and 4 bits: how far they are from the weight, what bitsandbytes makes of it, and what learns through them."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn

from animeflow.core.errors import ConfigError
from animeflow.model.low_bit import LowBitLinear, nf4_levels, quantise

KINDS = ("int8", "nf4")


class Block(nn.Module):
    """Two linear layers, the second without a bias and with a weight that makes no whole groups of 64."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.attn = nn.ModuleDict({"to_q": nn.Linear(32, 48)})
            self.out = nn.Linear(48, 5, bias=False)
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.attn["to_q"](x)))


def pictures(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def steps(weight: Tensor, kind: str) -> Tensor:
    """The largest that rounding may move each number."""
    if kind == "int8":
        return (weight.abs().amax(1, keepdim=True) / 127 / 2).expand_as(weight)
    widest = nf4_levels().diff().max() / 2
    groups = torch.nn.functional.pad(weight.flatten(), (0, -weight.numel() % 64)).view(-1, 64)
    return (groups.abs().amax(1, keepdim=True) * widest).expand_as(groups).flatten()[: weight.numel()].view_as(weight)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_move_by_half_a_step_at_most_and_outputs_by_what_that_makes(kind) -> None:
    plain = Block()
    packed = copy.deepcopy(plain)
    assert quantise(packed, ["attn.to_q", "out"], kind) == 2
    x = pictures(7, 32)
    for name in ("attn.to_q", "out"):
        before, after = plain.get_submodule(name).weight, packed.get_submodule(name).dequantize()
        moved = (before - after).abs()
        assert (moved <= steps(before, kind) * (1 + 1e-5)).all()
        assert moved.mean() > 0.1 * steps(before, kind).mean(), "it is rounded at all"
    layer = plain.attn["to_q"]
    error = (packed.attn["to_q"](x) - layer(x)).abs()
    assert (error <= x.abs() @ steps(layer.weight, kind).T + 1e-5).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_holds_codes_and_scales_and_no_weight(kind) -> None:
    packed = Block()
    quantise(packed, ["attn.to_q", "out"], kind)
    for name, numbers, rows in (("attn.to_q", 32 * 48, 48), ("out", 256, 5)):  # 240 numbers make four groups of 64
        layer = packed.get_submodule(name)
        held = sum(layer.get_buffer(each).nbytes for each in ("codes", "scales"))
        expected = numbers / 2 + 4 * numbers / 64 if kind == "nf4" else layer.in_features * rows + 4 * rows
        assert held == expected
        assert layer.weight.shape == (rows, layer.in_features) and layer.weight.isnan().all(), "nobody computes with it"
    assert not any(p.requires_grad or p.ndim > 1 for p in packed.parameters())
    assert set(packed.state_dict()) == {
        "attn.to_q.codes", "attn.to_q.scales", "attn.to_q.bias", "out.codes", "out.scales",
    }  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_goes_into_another_base_and_back(kind) -> None:
    one, other = Block(), Block()
    for p in other.parameters():
        p.data.mul_(3)
    for block in (one, other):
        quantise(block, ["attn.to_q", "out"], kind)
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(pictures(3, 32)), other(pictures(3, 32)))


@pytest.mark.parametrize("rows", ["zeros", "one large"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_row_of_zeros_stays_zeros_and_the_largest_number_is_exact(kind, rows) -> None:
    block = Block()
    with torch.no_grad():
        block.attn["to_q"].weight[:4] = 0 if rows == "zeros" else torch.full((4, 32), 1e-3)
        block.attn["to_q"].weight[0, 0] = 0 if rows == "zeros" else 7.0
        kept = block.attn["to_q"].weight.clone()
    quantise(block, ["attn.to_q"], kind)
    found = block.attn["to_q"].dequantize()
    assert torch.isfinite(found).all()
    assert found[0, 0] == pytest.approx(kept[0, 0].item())
    if rows == "zeros":
        assert not found[:4].any()


def test_the_nf4_layer_is_bitsandbytes_to_rounding() -> None:
    functional = pytest.importorskip("bitsandbytes").functional
    weight = pictures(48, 64)
    theirs_packed, state = functional.quantize_4bit(weight, blocksize=64, quant_type="nf4", compress_statistics=False)
    theirs = functional.dequantize_4bit(theirs_packed, state)
    layer = nn.Linear(64, 48, bias=False).requires_grad_(False)
    layer.weight.data.copy_(weight)
    block = nn.Sequential(layer)
    quantise(block, ["0"], "nf4")
    torch.testing.assert_close(block[0].dequantize(), theirs, rtol=1e-5, atol=1e-6)
    assert torch.equal(block[0].codes, theirs_packed.flatten()), "in the same order of halves of bytes"
    torch.testing.assert_close(nf4_levels(), functional.get_4bit_type("nf4", device="cpu"), rtol=0, atol=2e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_of_the_input_is_that_of_the_decoded_weight(kind, dtype) -> None:
    block = Block()
    quantise(block, ["attn.to_q"], kind)
    layer = block.attn["to_q"]
    plain = nn.Linear(32, 48).requires_grad_(False)
    plain.weight.data.copy_(layer.dequantize()), plain.bias.data.copy_(layer.bias)
    mine, theirs = (pictures(2, 7, 32).requires_grad_() for _ in range(2))
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        ours, expected = layer(mine), plain(theirs)
    assert ours.dtype == expected.dtype == dtype
    close = {"rtol": 1e-2, "atol": 1e-2} if dtype == torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(ours, expected, **close)
    pull = pictures(2, 7, 48, seed=2).to(dtype)
    ours.backward(pull), expected.backward(pull)
    torch.testing.assert_close(mine.grad, theirs.grad, **close)


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_additions_learn_over_it_and_nothing_frozen_does(kind, dora) -> None:
    block = Block()
    quantise(block, ["attn.to_q", "out"], kind)
    before = block(pictures(4, 32))
    config = LoraConfig(r=2, lora_alpha=2, target_modules=["attn.to_q", "out"], use_dora=dora)
    inject_adapter_in_model(config, block)
    torch.testing.assert_close(block(pictures(4, 32)), before, rtol=1e-5, atol=1e-5)
    learns = {name: p for name, p in block.named_parameters() if p.requires_grad}
    assert learns and all("lora_" in name and p.dtype == torch.float32 for name, p in learns.items())
    for name, p in learns.items():
        if "lora_B" in name:
            nn.init.constant_(p, 0.1)  # A has no gradient where B is zero
    kept = {name: buffer.clone() for name, buffer in block.named_buffers()}
    optimizer = torch.optim.SGD(learns.values(), lr=0.1)
    losses = []
    for _ in range(3):
        with torch.autocast("cpu", torch.bfloat16):
            loss = (block(pictures(4, 32)).float() - 1).square().mean()
        loss.backward()
        assert all(p.grad is not None and p.grad.any() for p in learns.values())
        assert all(p.grad is None for name, p in block.named_parameters() if name not in learns)
        optimizer.step(), optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[2] < losses[0]
    assert all(torch.equal(buffer, kept[name]) for name, buffer in block.named_buffers())


@pytest.mark.parametrize("kind", KINDS)
def test_no_decoded_weight_waits_for_the_backward_pass(kind) -> None:
    block = Block()
    quantise(block, ["attn.to_q"], kind)
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        block.attn["to_q"](pictures(3, 32).requires_grad_())
    assert saved and not any(t.is_floating_point() and t.numel() == 32 * 48 for t in saved)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cast_of_the_module_leaves_codes_and_scales_alone(kind) -> None:
    block = Block()
    quantise(block, ["attn.to_q"], kind)
    layer = block.attn["to_q"]
    kept = layer.dequantize()
    block.to(torch.bfloat16).to(dtype=torch.float32, device="cpu")
    assert torch.equal(layer.dequantize(), kept)
    assert block.bfloat16().attn["to_q"](pictures(2, 32).bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_compiled_as_one_graph(kind) -> None:
    torch._dynamo.reset()
    block = Block()
    quantise(block, ["attn.to_q", "out"], kind)
    compiled = torch.compile(copy.deepcopy(block), backend="aot_eager", fullgraph=True)
    one, other = (pictures(2, 32).requires_grad_() for _ in range(2))
    with torch.autocast("cpu", torch.bfloat16):
        ours, eager = compiled(one), block(other)
    torch.testing.assert_close(ours, eager)
    ours.float().sum().backward(), eager.float().sum().backward()
    torch.testing.assert_close(one.grad, other.grad)


def test_what_cannot_be_stored_so_is_told() -> None:
    block = Block()
    with pytest.raises(ConfigError, match="did you mean 'int8'") as caught:
        quantise(block, ["out"], "int4")
    assert caught.value.where == "learn.base_dtype"
    quantise(block, ["out"], "int8")
    with pytest.raises(ValueError, match="out is a LowBitLinear"):
        quantise(block, ["out"], "int8")
    assert isinstance(block.out, LowBitLinear)

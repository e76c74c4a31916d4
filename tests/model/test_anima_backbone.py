"""Anima's DiT and adapter: parity with diffusers, its size, gradient checkpointing, what of the adapter learns, fp32 time."""

from __future__ import annotations

import types

import diffusers.models.transformers.transformer_cosmos as cosmos
import pytest
import torch
from contract import stir
from diffusers import AnimaTextConditioner, CosmosTransformer3DModel
from torch.nn import functional as F

from animeflow.core import seed
from animeflow.core.conditioning import Conditioning
from animeflow.core.errors import ConfigError, DataError
from animeflow.model.anima.backbone import Backbone
from animeflow.model.anima.shapes import SHAPES, shape
from animeflow.model.anima.sizes import adapter_parameters, transformer_parameters


@pytest.fixture
def diffusers_forward(monkeypatch):
    """diffusers resizes the padding mask with torchvision, which a CPU install need not have; this is that resize."""

    def resize(mask, size, interpolation=None):
        return F.interpolate(mask, size=size, mode="nearest")

    transforms = types.SimpleNamespace(
        functional=types.SimpleNamespace(resize=resize), InterpolationMode=types.SimpleNamespace(NEAREST=0)
    )
    monkeypatch.setattr(cosmos, "transforms", transforms, raising=False)


def batch(*, qwen: int = 64, t5: int = 9) -> tuple[torch.Tensor, torch.Tensor, Conditioning]:
    """Three rows: whole, shorter, and the null prompt."""
    lengths = torch.tensor([t5, 4, 1])
    cond = Conditioning({
        "qwen": seed.normal((3, 7, qwen), 0, "qwen") * torch.tensor([1.0, 1.0, 0.0])[:, None, None],
        "qwen_mask": torch.arange(7)[None] < torch.tensor([7, 3, 0])[:, None],
        "t5_ids": torch.arange(3 * t5).reshape(3, t5).int() + 1,
        "t5_mask": torch.arange(t5)[None] < lengths[:, None],
    })  # fmt: skip
    return seed.normal((3, 16, 8, 12), 0, "x"), torch.tensor([0.1, 0.7123, 1.0]), cond


def stirred(**changes) -> Backbone:
    return stir(Backbone.random(shape("tiny", **changes), seed=0)).eval()


@torch.no_grad()
@pytest.mark.parametrize("learned", [True, False])
def test_velocity_is_diffusers(diffusers_forward, learned):
    backbone, (x, t, cond) = stirred(learned_positions=learned), batch()
    text = backbone.adapter(cond["qwen"], cond["t5_ids"], cond["t5_mask"], cond["qwen_mask"])
    expected = backbone.net(
        hidden_states=x[:, :, None], timestep=t, encoder_hidden_states=text,
        padding_mask=x.new_zeros(1, 1, 64, 96), return_dict=False,
    )[0][:, :, 0]  # fmt: skip
    torch.testing.assert_close(backbone(x, t, cond), expected, rtol=0, atol=1e-5)


def test_the_released_size_and_names():
    """Cosmos-Predict2-2B: 1.956 B; the adapter has its own numbers beside it."""
    base = SHAPES["base"]
    assert transformer_parameters(base) == 1_956_405_248
    assert base.width == 2048 and base.num_layers == 28
    with torch.device("meta"):
        net, adapter = CosmosTransformer3DModel(**base.transformer_config()), AnimaTextConditioner()
    shapes = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    assert shapes["patch_embed.proj.weight"] == (2048, 68)
    assert shapes["transformer_blocks.27.attn2.to_k.weight"] == (2048, 1024)
    assert shapes["norm_out.linear_2.weight"] == (4096, 256)
    ours = AnimaTextConditioner(**SHAPES["tiny"].conditioner_config())
    assert adapter_parameters(base) == sum(parameter.numel() for parameter in adapter.parameters())
    assert {n.split(".")[0] for n, _ in ours.named_parameters()} == {
        n.split(".")[0] for n, _ in adapter.named_parameters()
    }


def test_random_weights_begin_with_no_velocity_and_depend_on_the_seed():
    x, t, cond = batch()
    one, again, other = (Backbone.random(shape("tiny"), seed=s) for s in (3, 3, 4))
    assert one(x, t, cond).abs().max() == 0
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), again.state_dict().values(), strict=True))
    assert not torch.equal(one.net.patch_embed.proj.weight, other.net.patch_embed.proj.weight)


def test_building_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    Backbone.random(shape("tiny"), seed=0).adapter_mode("lora", rank=2, alpha=2, seed=0)
    assert torch.equal(torch.rand(1), expected)


@torch.no_grad()
def test_the_state_goes_out_and_in_bit_for_bit():
    backbone = stirred()
    state = backbone.export_state()
    assert {name.split(".")[0] for name in state} == {"transformer", "text_conditioner"}
    other = Backbone.random(shape("tiny"), seed=9)
    other.load_export_state(state)
    built = Backbone.from_state(shape("tiny"), state).eval()
    x, t, cond = batch()
    for copy in (other.eval(), built):
        assert torch.equal(copy(x, t, cond), backbone(x, t, cond))


def test_a_state_of_another_network_is_refused():
    state = Backbone.random(shape("tiny"), seed=0).export_state()
    missing = dict(list(state.items())[1:])
    with pytest.raises(DataError, match="1 names missing"):
        Backbone.from_state(shape("tiny"), missing)
    with pytest.raises(DataError, match="of another shape"):
        Backbone.random(shape("tiny", text_dim=64), seed=0).load_export_state(
            {**state, **{n: t for n, t in state.items() if not n.startswith("text_conditioner")}}
        )


def test_a_frozen_adapter_has_no_gradients_and_the_dit_learns():
    x, t, cond = batch()
    backbone = stirred().train()
    backbone.adapter_mode("freeze", rank=1, alpha=1, seed=0)
    backbone(x, t, cond).square().mean().backward()
    assert all(parameter.grad is None for parameter in backbone.adapter.parameters())
    assert all(parameter.grad is not None for parameter in backbone.net.parameters())


def test_a_lora_of_the_adapter_starts_as_nothing_learns_alone_and_exports_merged():
    x, t, cond = batch()
    backbone = stirred().train()
    with torch.no_grad():
        before = backbone(x, t, cond)
    names = set(backbone.export_state())
    backbone.adapter_mode("lora", rank=2, alpha=4.0, seed=0)
    with torch.no_grad():
        torch.testing.assert_close(backbone(x, t, cond), before, rtol=0, atol=1e-6)
    backbone(x, t, cond).square().mean().backward()
    learning = {name for name, parameter in backbone.adapter.named_parameters() if parameter.grad is not None}
    assert learning and all(".lora_" in name for name in learning)
    stir(backbone.adapter, scale=0.1)
    with torch.no_grad():
        loud = backbone(x, t, cond)
    state = backbone.export_state()
    assert set(state) == names
    merged = Backbone.random(shape("tiny"), seed=1).train()
    merged.load_export_state(state)
    with torch.no_grad():
        torch.testing.assert_close(merged(x, t, cond), loud, rtol=1e-4, atol=1e-5)
        assert (loud - before).abs().max() > 0.01


def test_an_unknown_adapter_mode_is_told():
    with pytest.raises(ConfigError, match="did you mean 'freeze'"):
        Backbone.random(shape("tiny"), seed=0).adapter_mode("freze", rank=1, alpha=1, seed=0)


@torch.no_grad()
def test_time_is_embedded_exactly_under_autocast():
    """0.99 and 0.9902 are one number in bf16; the modulation must still tell them apart as float32 does."""
    backbone = stirred()
    near = torch.tensor([0.99, 0.9902])
    exact = backbone._time(near)[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(backbone._time(near)[0], exact)


def test_float16_is_refused_with_the_reason():
    x, t, cond = batch()
    with pytest.raises(ConfigError, match="65504"):
        stirred().half()(x, t, cond)
    with torch.autocast("cpu", torch.float16), pytest.raises(ConfigError, match="65504"):
        stirred()(x, t, cond)


@torch.no_grad()
def test_bfloat16_weights_work_for_sampling():
    x, t, cond = batch()
    exact, rounded = stirred()(x, t, cond), stirred().bfloat16()(x, t, cond)
    assert rounded.dtype == torch.float32
    assert (rounded - exact).norm() < 0.1 * exact.norm()


def test_sides_that_do_not_fit_are_told():
    backbone = stirred()
    _, t, cond = batch()
    for height, width in ((7, 8), (8, 130)):
        with pytest.raises(ConfigError, match="do not fit a network"):
            backbone(torch.zeros(3, 16, height, width), t, cond)

"""The two sets of names: inverse of each other, equal to what diffusers' own converter reads, and what ComfyUI's detection asks."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import SD3Transformer2DModel
from diffusers.loaders.single_file_utils import (
    convert_ldm_vae_checkpoint,
    convert_sd3_transformer_checkpoint_to_diffusers,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import small_vae

from animeflow.core.errors import DataError
from animeflow.core.seed import normal
from animeflow.model.names import prefixed
from animeflow.model.sd35.keymap import (
    DIFFUSION,
    TEXT_ENCODERS,
    VAE,
    from_original,
    parts,
    to_original,
    transformer_pairs,
)
from animeflow.model.sd35.keymap_vae import vae_from_original, vae_to_original

SHAPES = [(1, (), "rms_norm"), (2, (), None), (2, (0,), "rms_norm"), (3, (0, 1), "rms_norm"), (3, (0, 2), None)]


def transformer(depth: int, dual: tuple[int, ...] = (), norm: str | None = "rms_norm") -> dict[str, torch.Tensor]:
    """State of a small diffusers network, every tensor random."""
    with torch.device("meta"):
        network = SD3Transformer2DModel(
            num_layers=depth,
            num_attention_heads=depth,
            attention_head_dim=64,
            caption_projection_dim=64 * depth,
            joint_attention_dim=32,
            pooled_projection_dim=24,
            in_channels=16,
            out_channels=16,
            pos_embed_max_size=6,
            sample_size=8,
            dual_attention_layers=dual,
            qk_norm=norm,
        )
    return {name: normal(tuple(tensor.shape), name) for name, tensor in network.state_dict().items()}


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert not [name for name in a if a[name].shape != b[name].shape or not torch.equal(a[name], b[name])]


@pytest.mark.parametrize("depth, dual, norm", SHAPES)
def test_there_and_back_is_the_identity(depth, dual, norm):
    state = transformer(depth, dual, norm)
    original = to_original(state)
    assert_same(from_original(original), state)
    assert_same(to_original(from_original(original)), original)
    assert sum(tensor.numel() for tensor in original.values()) == sum(tensor.numel() for tensor in state.values())


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_the_table_is_a_bijection_for_any_depth(data):
    """From the original side, with no network in between: any depth, any blocks with a second attention, any width."""
    depth = data.draw(st.integers(1, 6))
    dual = data.draw(st.sets(st.integers(0, depth - 1)))
    norms, width = data.draw(st.booleans()), 2 * data.draw(st.integers(1, 3))
    pairs = transformer_pairs(depth, dual=dual, norms=norms)
    assert len({pair.original for pair in pairs}) == len(pairs)
    original = {pair.original: normal((3 * width, 2), pair.original) for pair in pairs}
    assert_same(to_original(from_original(original)), original)


@pytest.mark.parametrize("depth, dual, norm", SHAPES)
def test_diffusers_reads_our_names_as_its_own(depth, dual, norm):
    state = transformer(depth, dual, norm)
    assert_same(convert_sd3_transformer_checkpoint_to_diffusers(prefixed(to_original(state), DIFFUSION)), state)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_halves_are_swapped_in_the_last_block_and_the_last_layer_only(depth):
    state = transformer(depth)
    original = to_original(state)
    for end in ("weight", "bias"):
        pairs = {"final_layer.adaLN_modulation.1": "norm_out.linear"}
        last = f"joint_blocks.{depth - 1}.context_block.adaLN_modulation.1"
        pairs[last] = f"transformer_blocks.{depth - 1}.norm1_context.linear"
        for ours, theirs in pairs.items():
            shift, scale = original[f"{ours}.{end}"].chunk(2)
            assert torch.equal(torch.cat([scale, shift]), state[f"{theirs}.{end}"])
        for index in range(depth - 1):
            ours = original[f"joint_blocks.{index}.context_block.adaLN_modulation.1.{end}"]
            assert torch.equal(ours, state[f"transformer_blocks.{index}.norm1_context.linear.{end}"])


def test_fused_rows_are_queries_keys_values():
    state = transformer(2, (0,))
    original = to_original(state)
    block = "transformer_blocks.0"
    for ours, theirs in {
        "x_block.attn": [f"{block}.attn.to_{part}" for part in "qkv"],
        "context_block.attn": [f"{block}.attn.add_{part}_proj" for part in "qkv"],
        "x_block.attn2": [f"{block}.attn2.to_{part}" for part in "qkv"],
    }.items():
        rows = original[f"joint_blocks.0.{ours}.qkv.weight"].chunk(3)
        assert all(torch.equal(row, state[f"{name}.weight"]) for row, name in zip(rows, theirs, strict=True))


H = 128  # two blocks of 64
BLOCK = {  # of the picture side, in every block
    "x_block.attn.qkv": (3 * H, H),
    "x_block.attn.proj": (H, H),
    "x_block.mlp.fc1": (4 * H, H),
    "x_block.mlp.fc2": (H, 4 * H),
    "context_block.attn.qkv": (3 * H, H),
}
FIRST = BLOCK | {
    "x_block.adaLN_modulation.1": (9 * H, H),
    "x_block.attn2.qkv": (3 * H, H),
    "x_block.attn2.proj": (H, H),
    "context_block.adaLN_modulation.1": (6 * H, H),
    "context_block.attn.proj": (H, H),
    "context_block.mlp.fc1": (4 * H, H),
    "context_block.mlp.fc2": (H, 4 * H),
}
LAST = BLOCK | {"x_block.adaLN_modulation.1": (6 * H, H), "context_block.adaLN_modulation.1": (2 * H, H)}
OUTSIDE = {
    "t_embedder.mlp.0": (H, 256),
    "t_embedder.mlp.2": (H, H),
    "y_embedder.mlp.0": (H, 24),
    "y_embedder.mlp.2": (H, H),
    "x_embedder.proj": (H, 16, 2, 2),
    "context_embedder": (H, 32),
    "final_layer.adaLN_modulation.1": (2 * H, H),
    "final_layer.linear": (64, H),
}
NORMS = [f"joint_blocks.{n}.{side}_block.attn.ln_{axis}" for n in (0, 1) for side in ("x", "context") for axis in "qk"]
NORMS += [f"joint_blocks.0.x_block.attn2.ln_{axis}" for axis in "qk"]


def test_keys_and_shapes_are_those_of_the_original_file():
    """Two blocks, the first with dual attention: the table written out by hand."""
    layers = {f"joint_blocks.0.{name}": shape for name, shape in FIRST.items()}
    layers |= {f"joint_blocks.1.{name}": shape for name, shape in LAST.items()} | OUTSIDE
    golden = {f"{name}.weight": shape for name, shape in layers.items()}
    golden |= {f"{name}.bias": shape[:1] for name, shape in layers.items()}
    golden |= {f"{name}.weight": (64,) for name in NORMS} | {"pos_embed": (1, 36, H)}
    assert {name: tuple(tensor.shape) for name, tensor in to_original(transformer(2, (0,))).items()} == golden


def test_medium_has_the_number_of_keys_of_the_released_file():
    assert len(transformer_pairs(24, dual=range(13), norms=True)) == 665


@pytest.mark.parametrize("depth, dual, norm", SHAPES)
def test_comfyui_detects_the_network(depth, dual, norm):
    """Its rules, as found by running it: everything is read from names and shapes."""
    file = prefixed(to_original(transformer(depth, dual, norm)), DIFFUSION)
    found = {name.removeprefix(DIFFUSION): tensor for name, tensor in file.items() if name.startswith(DIFFUSION)}
    assert "joint_blocks.0.context_block.attn.qkv.weight" in found
    assert found["x_embedder.proj.weight"].shape[0] // 64 == depth
    assert {int(name.split(".")[1]) for name in found if name.startswith("joint_blocks.")} == set(range(depth))
    assert found["x_embedder.proj.weight"].shape[1] == 16
    assert math.isqrt(found["pos_embed"].shape[1]) ** 2 == found["pos_embed"].shape[1]
    assert ("joint_blocks.0.context_block.attn.ln_q.weight" in found) == (norm is not None)
    assert {n for n in range(depth) if f"joint_blocks.{n}.x_block.attn2.qkv.weight" in found} == set(dual)


def test_an_unknown_key_is_named_with_a_suggestion():
    state = transformer(1)
    state["transformer_blocks.0.attn.to_kk.weight"] = torch.zeros(1)
    with pytest.raises(DataError, match=r"1 unknown: 'transformer_blocks.0.attn.to_kk.weight' \(did you mean"):
        to_original(state)


@pytest.mark.parametrize("name", ["pos_embed", "joint_blocks.0.x_block.attn.ln_q.weight", "final_layer.linear.bias"])
def test_a_missing_key_is_named(name):
    original = to_original(transformer(2))
    del original[name]
    with pytest.raises(DataError, match=f"1 missing: '{name}'"):
        from_original(original)


def test_a_missing_block_and_another_network_are_told():
    original = to_original(transformer(3))
    with pytest.raises(DataError, match=r"block numbers \[0, 2\]"):
        from_original({name: tensor for name, tensor in original.items() if "blocks.1." not in name})
    with pytest.raises(DataError, match="block numbers"):
        from_original({"blocks.0.mlp.layer1.weight": torch.zeros(1)})


def test_parts_of_different_dtype_are_not_joined():
    state = transformer(1)
    state["transformer_blocks.0.attn.to_k.weight"] = state["transformer_blocks.0.attn.to_k.weight"].bfloat16()
    with pytest.raises(DataError, match="differ in shape or dtype"):
        to_original(state)


def test_an_all_in_one_file_comes_apart():
    state, text = to_original(transformer(1)), {"text_model.final_layer_norm.weight": torch.ones(2)}
    vae = vae_to_original(small_vae().state_dict())
    clip = TEXT_ENCODERS["clip_l"]
    found = parts(prefixed(state, DIFFUSION) | prefixed(vae, VAE) | prefixed(text, clip))
    assert found.keys() == {DIFFUSION, VAE, clip}
    assert_same(found[DIFFUSION], state)
    assert_same(found[VAE], vae)
    assert_same(parts(state)[DIFFUSION], state)
    with pytest.raises(DataError, match="belong to no known part"):
        parts(prefixed(state, DIFFUSION) | {"optimizer.step": torch.ones(1)})


def test_autoencoder_there_and_back_and_as_diffusers_reads_it():
    vae = small_vae()
    state = vae.state_dict()
    original = vae_to_original(state)
    assert_same(vae_from_original(original), state)
    assert_same(convert_ldm_vae_checkpoint(prefixed(original, VAE), vae.config), state)
    assert original["encoder.mid.attn_1.q.weight"].shape == (16, 16, 1, 1)
    assert not [name for name in original if "quant_conv" in name]
    del original["decoder.up.0.block.0.conv1.bias"]
    with pytest.raises(DataError, match=r"1 missing: 'decoder.up.0.block.0.conv1.bias'"):
        vae_from_original(original)

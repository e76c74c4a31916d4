"""Anima's two sets of names: inverse of each other, what diffusers' own converters read, and the released file's by shape."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import AnimaTextConditioner, AutoencoderKL, AutoencoderKLQwenImage, CosmosTransformer3DModel
from diffusers.loaders.single_file_utils import (
    convert_cosmos_transformer_checkpoint_to_diffusers,
    convert_wan_vae_to_diffusers,
)
from transformers import Qwen3Config, Qwen3Model

from animeflow.core.errors import DataError
from animeflow.core.seed import normal
from animeflow.model.anima.keymap import (
    ADAPTER,
    CONDITIONER,
    DIFFUSION,
    ENCODER,
    IGNORED,
    RELEASED,
    TEXT,
    TRANSFORMER,
    VAE,
    backbone_state,
    from_encoder_file,
    from_released,
    parts,
    to_encoder_file,
    to_released,
)
from animeflow.model.anima.keymap_vae import vae_from_original, vae_to_original
from animeflow.model.anima.shapes import Shape, shape
from animeflow.model.anima.sizes import QWEN3_06B
from animeflow.model.names import prefixed, without

State = dict[str, torch.Tensor]
SMALL = shape(
    "tiny", num_layers=2, num_attention_heads=1, attention_head_dim=32, text_dim=16, adaln_lora_dim=8, qwen_dim=12,
    learned_positions=False,
)  # fmt: skip


def on_meta(size: Shape) -> tuple[CosmosTransformer3DModel, AnimaTextConditioner]:
    with torch.device("meta"):
        return CosmosTransformer3DModel(**size.transformer_config()), AnimaTextConditioner(**size.conditioner_config())


def names_of(size: Shape) -> State:
    """Every tensor of diffusers' two networks behind the names of their folders, without memory."""
    transformer, conditioner = on_meta(size)
    return prefixed(transformer.state_dict(), TRANSFORMER) | prefixed(conditioner.state_dict(), CONDITIONER)


def filled(state: State) -> State:
    """Every tensor random, drawn from its name: what changes places shows."""
    return {name: normal(tuple(tensor.shape), name) for name, tensor in state.items()}


def assert_same(a: State, b: State) -> None:
    assert a.keys() == b.keys()
    assert not [name for name in a if a[name] is not b[name] and not torch.equal(a[name], b[name])]


@pytest.fixture(scope="module")
def state() -> State:
    return filled(names_of(SMALL))


# -- DiT and adapter ---------------------------------------------------------------------------------------------------


def test_there_and_back_is_the_identity(state):
    released = to_released(state)
    assert_same(from_released(released), state)
    assert_same(to_released(from_released(released)), released)


@pytest.mark.parametrize(
    "changes", [{"adapter_dim": 24}, {"num_layers": 1, "adapter_layers": 3}, {"num_layers": 11}], ids=str
)
def test_other_sizes_have_names_too(changes):
    """An adapter of another width than its token embedding has a projection more; block 10 is not block 1."""
    other = names_of(replace(SMALL, **changes))
    released = to_released(other)
    assert len(released) == len(other)
    assert_same(from_released(released), other)


def test_diffusers_reads_the_released_names_as_its_own(state):
    """Its converter for Cosmos-Predict2, given the DiT as the released file has it, and with the constants of kohya's saves."""
    dit = {name: tensor for name, tensor in to_released(state).items() if not name.startswith(ADAPTER)}
    constants = {name: torch.zeros(3) for name in IGNORED}
    found = convert_cosmos_transformer_checkpoint_to_diffusers(prefixed(dit | constants, RELEASED))
    assert_same(found, without(state, TRANSFORMER))


def test_learned_positions_have_cosmos_own_names_and_come_back():
    ours = filled(names_of(replace(SMALL, learned_positions=True)))
    released = to_released(ours)
    for axis in "thw":
        table = ours[f"{TRANSFORMER}learnable_pos_embed.pos_emb_{axis}"]
        assert torch.equal(released[f"extra_pos_embedder.pos_emb_{axis}"], table)
    assert_same(from_released(released), ours)
    del released["extra_pos_embedder.pos_emb_t"]
    with pytest.raises(DataError, match="1 missing"):
        from_released(released)


BLOCK = {
    **{f"self_attn.{name}_proj": (2048, 2048) for name in ("q", "k", "v", "output")},
    **{f"cross_attn.{name}_proj": (2048, 2048) for name in ("q", "output")},
    **{f"cross_attn.{name}_proj": (2048, 1024) for name in "kv"},
    **{f"{part}.{name}_norm": (128,) for part in ("self_attn", "cross_attn") for name in "qk"},
    "mlp.layer1": (8192, 2048),
    "mlp.layer2": (2048, 8192),
    **{f"adaln_modulation_{part}.1": (256, 2048) for part in ("self_attn", "cross_attn", "mlp")},
    **{f"adaln_modulation_{part}.2": (6144, 256) for part in ("self_attn", "cross_attn", "mlp")},
}
OUTSIDE = {
    "x_embedder.proj.1": (2048, 68),
    "t_embedder.1.linear_1": (2048, 2048),
    "t_embedder.1.linear_2": (6144, 2048),
    "t_embedding_norm": (2048,),
    "final_layer.adaln_modulation.1": (256, 2048),
    "final_layer.adaln_modulation.2": (4096, 256),
    "final_layer.linear": (64, 2048),
}
ADAPTER_BLOCK = {
    **{f"{part}.{name}_proj.weight": (1024, 1024) for part in ("self_attn", "cross_attn") for name in "qkvo"},
    **{f"{part}.{name}_norm.weight": (64,) for part in ("self_attn", "cross_attn") for name in "qk"},
    **{f"norm_{part}.weight": (1024,) for part in ("self_attn", "cross_attn", "mlp")},
    "mlp.0.weight": (4096, 1024),
    "mlp.0.bias": (4096,),
    "mlp.2.weight": (1024, 4096),
    "mlp.2.bias": (1024,),
}
ADAPTER_OUTSIDE = {
    "embed.weight": (32128, 1024),
    "out_proj.weight": (1024, 1024),
    "out_proj.bias": (1024,),
    "norm.weight": (1024,),
}


def test_keys_and_shapes_of_base_are_the_released_ones():
    """The released file, written out by hand: 28 blocks and an adapter of 6, no bias in the DiT, no constants."""
    golden = {f"{name}.weight": size for name, size in OUTSIDE.items()}
    golden |= {f"blocks.{n}.{name}.weight": size for n in range(28) for name, size in BLOCK.items()}
    golden |= {f"{ADAPTER}{name}": size for name, size in ADAPTER_OUTSIDE.items()}
    golden |= {f"{ADAPTER}blocks.{n}.{name}": size for n in range(6) for name, size in ADAPTER_BLOCK.items()}
    assert {name: tuple(tensor.shape) for name, tensor in to_released(names_of(shape("base"))).items()} == golden


def test_base_has_the_published_number_of_parameters():
    transformer, conditioner = on_meta(shape("base"))
    assert sum(parameter.numel() for parameter in transformer.parameters()) == 1_956_405_248
    assert sum(parameter.numel() for parameter in conditioner.parameters()) == 134_663_680
    assert len(to_released(names_of(shape("base")))) == 567 + 118


def test_comfyui_detects_the_network(state):
    """By these two keys, behind `net.`."""
    file = prefixed(to_released(state), RELEASED)
    assert {"net.blocks.0.mlp.layer1.weight", "net.llm_adapter.blocks.0.cross_attn.q_proj.weight"} <= file.keys()


@pytest.mark.parametrize("prefix", [RELEASED, DIFFUSION, ""])
def test_a_file_is_read_behind_any_known_prefix(state, prefix):
    constants = {name: torch.zeros(3) for name in IGNORED}
    assert_same(backbone_state(prefixed(to_released(state) | constants, prefix)), state)
    assert_same(backbone_state(state), state)


def test_an_all_in_one_file_comes_apart(state):
    dit, vae, text = to_released(state), {"conv1.weight": torch.ones(2)}, {"model.norm.weight": torch.ones(2)}
    file = prefixed(dit, DIFFUSION) | prefixed(vae, VAE) | prefixed(text, TEXT)
    found = parts(file)
    assert found.keys() == {RELEASED, VAE, TEXT}
    for prefix, part in ((RELEASED, dit), (VAE, vae), (TEXT, text)):
        assert_same(found[prefix], part)
    assert_same(backbone_state(file), state)
    with pytest.raises(DataError, match="belong to no known part"):
        parts(file | {"optimizer.step": torch.ones(1)})
    with pytest.raises(DataError, match="two prefixes"):
        parts(file | prefixed(dit, RELEASED))
    with pytest.raises(DataError, match="no diffusion weights here"):
        backbone_state(prefixed(vae, VAE))


def test_a_dit_without_its_adapter_is_refused_with_the_reason(state):
    for file in (to_released(state), state):
        alone = {name: tensor for name, tensor in file.items() if not name.startswith((ADAPTER, CONDITIONER))}
        with pytest.raises(DataError, match=r"no text adapter(?s:.)*Cosmos-Predict2"):
            backbone_state(alone)
        with pytest.raises(DataError, match="no text adapter"):
            backbone_state(prefixed(alone, RELEASED) if file is not state else without(alone, TRANSFORMER))


MISSING = [
    "net.blocks.1.cross_attn.k_norm.weight",
    "net.t_embedding_norm.weight",
    "net.llm_adapter.out_proj.bias",
    "net.llm_adapter.blocks.1.mlp.2.bias",
]


@pytest.mark.parametrize("name", MISSING)
def test_a_missing_key_is_named(state, name):
    file = prefixed(to_released(state), RELEASED)
    del file[name]
    with pytest.raises(DataError, match=f"1 missing: '{name.removeprefix(RELEASED)}'"):
        backbone_state(file)


def test_an_unknown_key_is_named_with_a_suggestion(state):
    for file, name in (
        (to_released(state), "blocks.0.self_attn.qq_proj.weight"),
        (state, "transformer.transformer_blocks.0.attn1.to_qq.weight"),
    ):
        with pytest.raises(DataError, match=rf"1 unknown: '{name}' \(did you mean"):
            backbone_state(file | {name: torch.zeros(1)})


def test_missing_blocks_and_other_networks_are_told(state):
    hole = {name: tensor for name, tensor in to_released(state).items() if not name.startswith("blocks.0.")}
    with pytest.raises(DataError, match=r"block numbers \[1\]"):
        backbone_state(hole)
    others = {
        "model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight": "looks like Stable Diffusion 3.x$",
        "transformer_blocks.0.norm1_context.linear.weight": "looks like Stable Diffusion 3.x in diffusers' names",
        "model.layers.0.self_attn.q_proj.weight": "looks like a language model",
        "something.else": r"block numbers \[\]",
    }
    for name, told in others.items():
        with pytest.raises(DataError, match=told.replace("$", r"\n")):
            backbone_state({name: torch.zeros(1)})


# -- autoencoder -------------------------------------------------------------------------------------------------------


def qwen_vae(**changes) -> State:
    with torch.device("meta"):
        return AutoencoderKLQwenImage(**changes).state_dict()


@pytest.mark.parametrize("changes", [{"base_dim": 8}, {}], ids=str)
def test_diffusers_reads_the_original_autoencoder_as_its_own(changes):
    state = qwen_vae(**changes)
    if changes:
        state = filled(state)
    original = vae_to_original(state)
    assert_same(convert_wan_vae_to_diffusers(original), state)
    assert_same(vae_from_original(original), state)
    assert len(original) == 194


@pytest.mark.parametrize(
    "changes",
    [{"num_res_blocks": 1}, {"num_res_blocks": 3}, {"dim_mult": [1, 2], "temperal_downsample": [True]}],
    ids=str,
)
def test_autoencoders_of_other_depths_come_back(changes):
    state = filled(qwen_vae(base_dim=8, **changes))
    original = vae_to_original(state)
    assert len(original) == len(state)
    assert_same(vae_from_original(original), state)


def test_the_original_autoencoder_has_the_names_that_comfyui_asks_for():
    original = vae_to_original(qwen_vae(base_dim=8))
    golden = {
        "conv1.weight": (32, 32, 1, 1, 1),
        "conv2.bias": (16,),
        "encoder.conv1.weight": (8, 3, 3, 3, 3),
        "encoder.downsamples.0.residual.0.gamma": (8, 1, 1, 1),
        "encoder.downsamples.0.residual.6.weight": (8, 8, 3, 3, 3),
        "encoder.downsamples.2.resample.1.weight": (8, 8, 3, 3),
        "encoder.downsamples.3.shortcut.weight": (16, 8, 1, 1, 1),
        "encoder.downsamples.5.time_conv.weight": (16, 16, 3, 1, 1),
        "encoder.middle.1.to_qkv.weight": (96, 32, 1, 1),
        "encoder.head.2.weight": (32, 32, 3, 3, 3),
        "decoder.middle.0.residual.2.weight": (32, 32, 3, 3, 3),
        "decoder.upsamples.3.time_conv.weight": (64, 32, 3, 1, 1),
        "decoder.upsamples.4.shortcut.weight": (32, 16, 1, 1, 1),
        "decoder.upsamples.11.resample.1.weight": (8, 16, 3, 3),
        "decoder.upsamples.14.residual.3.gamma": (8, 1, 1, 1),
        "decoder.head.0.gamma": (8, 1, 1, 1),
    }
    assert {name: tuple(original[name].shape) for name in golden} == golden


def test_an_incomplete_or_other_autoencoder_is_told():
    original = vae_to_original(qwen_vae(base_dim=8))
    for name in (
        "decoder.upsamples.9.residual.2.bias",
        "encoder.middle.1.proj.weight",
        "decoder.upsamples.7.time_conv.bias",
    ):
        with pytest.raises(DataError, match=f"1 missing: '{name}'"):
            vae_from_original({key: tensor for key, tensor in original.items() if key != name})
    with pytest.raises(DataError, match=r"parts \[0, 1, 3, 4"):
        vae_from_original(
            {key: tensor for key, tensor in original.items() if not key.startswith("encoder.downsamples.2.")}
        )
    with torch.device("meta"):
        other = AutoencoderKL(norm_num_groups=1, block_out_channels=(4,)).state_dict()
    for convert in (vae_to_original, vae_from_original):
        with pytest.raises(DataError, match=r"not those of .*(autoencoder|AutoencoderKLQwenImage)"):
            convert(other)


# -- text encoder ------------------------------------------------------------------------------------------------------


def test_the_text_encoder_is_the_released_one():
    with torch.device("meta"):
        state = Qwen3Model(Qwen3Config(**QWEN3_06B)).state_dict()
    file = to_encoder_file(state)
    assert {name.removeprefix(ENCODER) for name in file} == state.keys() and len(file) == 310
    assert all(name.startswith("model.") for name in file)
    assert (
        2 * sum(tensor.numel() for tensor in file.values()) == 1_192_099_840
    )  # bytes in bf16; the released file has a header, too
    head = {"lm_head.weight": torch.zeros(1)}
    for read in (file | head, state):
        assert_same(from_encoder_file(read), state)
    with pytest.raises(DataError, match=r"1 missing: 'layers.27.mlp.up_proj.weight'"):
        from_encoder_file(
            {name: tensor for name, tensor in file.items() if name != "model.layers.27.mlp.up_proj.weight"}
        )
    with pytest.raises(DataError, match="not those of a Qwen3 text encoder"):
        from_encoder_file({"encoder.block.0.layer.0.SelfAttention.q.weight": torch.zeros(1)})

"""A file of another network is told by what it looks like, with its place; a part of the right one is told as such."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderTiny
from safetensors.torch import save_file
from test_codec import small_kl
from transformers import Qwen3Config, Qwen3Model, T5Config, T5EncoderModel

from animeflow.core.errors import ConfigError, DataError
from animeflow.model.anima.family import Anima
from animeflow.model.anima.keymap import to_released
from animeflow.model.anima.shapes import SHAPES, shape
from animeflow.model.codec import TinyCodec
from animeflow.model.likeness import looks_like
from animeflow.model.sd35.family import SD35
from animeflow.model.sd35.keymap import to_original

WORDS = ["blue", "hair"]
SMALL = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 9}


@pytest.fixture(scope="module")
def anima() -> dict[str, torch.Tensor]:
    return Anima("tiny", vocabulary=WORDS, depth=2, heads=1).backbone().export_state()


@pytest.fixture(scope="module")
def sd35() -> dict[str, torch.Tensor]:
    return SD35("tiny", vocabulary=WORDS).backbone().export_state()


def behind(prefix: str, names: list[str]) -> list[str]:
    return [prefix + name for name in names]


def test_networks_are_known_by_their_own_names(anima, sd35):
    released, original = list(to_released(anima)), list(to_original(sd35))
    with torch.device("meta"):
        qwen = Qwen3Model(Qwen3Config(**SMALL, num_key_value_heads=1))
        t5 = T5EncoderModel(T5Config(vocab_size=9, d_model=32, d_kv=16, d_ff=32, num_layers=1, num_heads=2))
    said = {
        "Anima": [released, behind("net.", released), behind("model.diffusion_model.", released), list(anima)],
        "Stable Diffusion 3.x": [original, behind("model.diffusion_model.", original)],
        "Stable Diffusion 3.x in diffusers' names": [list(sd35), behind("transformer.", list(sd35))],
        "Cosmos-Predict2 without a text adapter": [[name for name in released if not name.startswith("llm_adapter.")]],
        "an autoencoder": [list(small_kl().state_dict()), ["first_stage_model.conv1.weight"], ["decoder.up.0.x.bias"]],
        "a CLIP text encoder": [["text_model.encoder.layers.0.mlp.fc1.weight"]],
        "a T5 text encoder": [list(t5.state_dict())],
        "a language model, such as Qwen3": [list(qwen.state_dict()), behind("model.", list(qwen.state_dict()))],
        "FLUX": [["model.diffusion_model.double_blocks.0.img_attn.qkv.weight"], ["double_blocks.0.txt_mod.lin.bias"]],
        "a U-Net (SD 1.5 or SDXL)": [["model.diffusion_model.input_blocks.0.0.weight", "first_stage_model.x"]],
        "a LoRA": [["lora_unet_blocks_0_mlp.lora_down.weight"], ["transformer.transformer_blocks.0.attn.to_q.lora_A.weight"]],
        None: [["something.weight"], []],
    }  # fmt: skip
    for kind, files in said.items():
        assert [looks_like(names) for names in files] == [kind] * len(files)


def test_sd35_tells_what_another_file_looks_like_and_where(anima, sd35, tmp_path):
    file = tmp_path / "other.safetensors"
    files = {
        "this looks like Anima": to_released(anima),
        "this looks like a U-Net": {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(1)},
        "this looks like a diffusion transformer": {"transformer_blocks.0.attn1.to_q.weight": torch.zeros(1)},
        "no diffusion weights here, only first_stage_model": {"first_stage_model.encoder.x": torch.zeros(1)},
        "1 missing: 'pos_embed.proj.bias'$": {k: v for k, v in sd35.items() if k != "pos_embed.proj.bias"},
    }
    for told, state in files.items():
        save_file({name: tensor.contiguous().clone() for name, tensor in state.items()}, file)
        with pytest.raises(DataError, match=told.replace("$", r"\n")) as error:
            SD35("tiny", vocabulary=WORDS, weights=file)
        assert error.value.where == str(file)
    assert "looks like" not in error.value.what  # a part of the right network


def test_anima_tells_what_another_file_looks_like_and_where(anima, sd35, tmp_path):
    file = tmp_path / "other.safetensors"
    released = to_released(anima)
    files = {
        "looks like Stable Diffusion 3.x\n": to_original(sd35),
        "looks like Stable Diffusion 3.x in diffusers' names": sd35,
        "no text adapter": {k: v for k, v in released.items() if not k.startswith("llm_adapter.")},
        "1 missing: 'x_embedder.proj.1.weight'\n": {k: v for k, v in released.items() if "x_embedder" not in k},
    }
    for told, state in files.items():
        save_file({name: tensor.contiguous().clone() for name, tensor in state.items()}, file)
        with pytest.raises(DataError, match=told) as error:
            Anima("tiny", vocabulary=WORDS, weights=file)
        assert error.value.where == str(file)


def test_a_codec_of_another_structure_is_told_in_a_few_names(tmp_path):
    net = AutoencoderTiny(latent_channels=16).state_dict()
    encoder = {k.removeprefix("encoder.layers."): v for k, v in net.items() if k.startswith("encoder.")}
    decoder = {k.removeprefix("decoder.layers."): v for k, v in net.items() if k.startswith("decoder.")}
    deeper = encoder | {f"99.{part}": torch.zeros(16) for part in "abcdefgh"}
    with pytest.raises(DataError, match=r"not the layers of TAESD: .*8 unknown") as told:
        TinyCodec.native(deeper, {f"{int(k[: k.index('.')]) + 1}{k[k.index('.') :]}": v for k, v in decoder.items()})
    assert len(told.value.what) < 400
    assert "taef2" in told.value.do
    for other in ({}, {"conv_in.bias": torch.zeros(4)}):
        with pytest.raises(DataError, match="not the layers of TAESD"):
            TinyCodec.native(other, {"conv_in.bias": torch.zeros(4)}, where="here")


@pytest.mark.parametrize("head", [1, 2, 4, 6, 8, 10, 11, 13])
def test_heads_that_cannot_turn_with_positions_are_refused(head):
    with pytest.raises(ConfigError, match=f"attention heads of {head} channels"):
        shape("tiny", attention_head_dim=head)


@pytest.mark.parametrize("width", [4, 12, 50])
def test_an_adapter_that_does_not_divide_is_refused(width):
    with pytest.raises(ConfigError, match=f"an adapter of {width} channels") as told:
        Anima("tiny", vocabulary=WORDS, text_dim=width)
    assert (told.value.where, told.value.do) == ("model.text_dim", "use a multiple of 8")


@pytest.mark.parametrize(("head", "width"), [(12, 8), (14, 16), (32, 40)])
def test_the_smallest_sizes_that_are_allowed_draw(head, width):
    family = Anima("tiny", vocabulary=WORDS, depth=1, heads=1)
    family.shape = replace(SHAPES["tiny"], num_layers=1, attention_head_dim=head, text_dim=width, adapter_dim=width)
    tower = family.text_tower()
    velocity = family.backbone()(torch.randn(1, 16, 4, 6), torch.tensor([0.5]), tower.collate(tower.encode(["blue"])))
    assert velocity.shape == (1, 16, 4, 6) and velocity.isfinite().all()

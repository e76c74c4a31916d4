"""Folders of diffusers and transformers load whole or not at all, and another kind of network is told as such."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderKLQwenImage, AutoencoderTiny, SD3Transformer2DModel
from safetensors.torch import load_file, save_file
from test_codec import small_kl
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextModelWithProjection,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
    T5ForConditionalGeneration,
)

from animeflow.core.errors import ConfigError, DataError
from animeflow.core.files import read_json, write_json
from animeflow.model.anima.codec import load_anima_codec, untrained_qwen_codec
from animeflow.model.anima.family import Anima
from animeflow.model.anima.tiny import tiny_tower as tiny_qwen
from animeflow.model.codec import load_codec
from animeflow.model.pretrained import load_whole
from animeflow.model.sd35.family import SD35
from animeflow.model.sd35.tiny import tiny_tower as tiny_sd3
from animeflow.model.toon_codec import untrained_codec

WORDS = ["blue", "hair"]
PLACES = {
    Qwen3Model: "anima/text_encoder",
    CLIPTextModelWithProjection: "sd35/text_encoder",
    T5EncoderModel: "sd35/text_encoder_3",
    SD3Transformer2DModel: "sd35/transformer",
    AutoencoderKL: "kl",
    AutoencoderTiny: "tiny",
    AutoencoderKLQwenImage: "qwen",
}
KINDS = pytest.mark.parametrize("kind", PLACES, ids=lambda kind: kind.__name__)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """One folder of every kind; not for changing."""
    folder = tmp_path_factory.mktemp("made")
    tiny_sd3(WORDS).save(folder / "sd35")
    tiny_qwen(WORDS).save(folder / "anima")
    SD35("tiny", vocabulary=WORDS).backbone().net.save_pretrained(folder / "sd35" / "transformer")
    backbone = Anima("tiny", vocabulary=WORDS, depth=1, heads=1).backbone()
    backbone.net.save_pretrained(folder / "anima" / "transformer")
    backbone.adapter.save_pretrained(folder / "anima" / "text_conditioner")
    small_kl().save_pretrained(folder / "kl")
    untrained_codec().save(folder / "tiny")
    untrained_qwen_codec().save(folder / "qwen")
    return folder


def weights_of(folder: Path) -> Path:
    return next(folder.glob("*.safetensors"))


def changed(source: Path, target: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> Path:
    """A copy of a folder whose tensors went through `change`."""
    shutil.copytree(source, target)
    state = load_file(weights_of(source))
    change(state)
    save_file(state, weights_of(target), metadata={"format": "pt"})
    return target


def matrices(state: dict[str, torch.Tensor]) -> list[str]:
    return sorted(name for name, tensor in state.items() if tensor.ndim > 1)


def quiet(caplog, capfd) -> bool:
    written = capfd.readouterr()
    return (
        not caplog.records and "MISSING" not in written.out + written.err and "newly" not in written.out + written.err
    )


# -- whole -------------------------------------------------------------------------------------------------------------


@KINDS
def test_a_whole_folder_gives_its_own_tensors(made, kind, caplog, capfd):
    network = load_whole(kind, made / PLACES[kind])
    state = network.state_dict()
    stored = load_file(weights_of(made / PLACES[kind]))
    assert all(torch.equal(state[name], tensor) for name, tensor in stored.items())
    assert {tensor.dtype for tensor in state.values() if tensor.is_floating_point()} == {torch.float32}
    assert quiet(caplog, capfd)


@pytest.mark.parametrize("kind", [Qwen3Model, T5EncoderModel, AutoencoderKLQwenImage], ids=lambda kind: kind.__name__)
def test_the_dtype_is_the_asked_one(made, kind):
    network = load_whole(kind, made / PLACES[kind], dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.bfloat16}


EMBEDDINGS = ("shared.weight", "encoder.embed_tokens.weight")


@pytest.mark.parametrize("names", [EMBEDDINGS[:1], EMBEDDINGS[1:], EMBEDDINGS], ids=["first", "second", "both"])
def test_t5s_tied_embedding_may_have_either_name_or_both(made, tmp_path, names):
    stored = load_file(weights_of(made / PLACES[T5EncoderModel]))
    rows = next(stored[name] for name in EMBEDDINGS if name in stored)

    def rename(state):
        for name in EMBEDDINGS:
            state.pop(name, None)
        state.update({name: rows.clone() for name in names})

    network = load_whole(T5EncoderModel, changed(made / PLACES[T5EncoderModel], tmp_path / "t5", rename))
    assert torch.equal(network.encoder.embed_tokens.weight, rows)


def test_constants_of_older_versions_are_passed_over(made, tmp_path):
    def add(state):
        state["text_model.embeddings.position_ids"] = torch.arange(77)[None]

    kind = CLIPTextModelWithProjection
    assert load_whole(kind, changed(made / PLACES[kind], tmp_path / "clip", add)).text_projection.weight.numel()


def test_old_names_of_an_autoencoders_attention_are_known(made, tmp_path):
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def rename(state):
        for name in list(state):
            for ours, old in names.items():
                if f".{ours}." in name:
                    state[name.replace(ours, old)] = state.pop(name)

    old = load_whole(AutoencoderKL, changed(made / "kl", tmp_path / "kl", rename))
    for name, tensor in load_whole(AutoencoderKL, made / "kl").state_dict().items():
        assert torch.equal(old.state_dict()[name], tensor)


def test_a_part_is_taken_out_of_the_network_it_belongs_to(tmp_path):
    """A language model's folder for its body, CLIP's for its text half, T5's for its encoder."""
    small = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = small | {"vocab_size": 50, "bos_token_id": 1, "eos_token_id": 2}
    vision = small | {"image_size": 32, "patch_size": 16}
    whole = {
        Qwen3Model: Qwen3ForCausalLM(
            Qwen3Config(vocab_size=50, head_dim=16, num_key_value_heads=1, tie_word_embeddings=False, **small)
        ),
        CLIPTextModelWithProjection: CLIPModel(CLIPConfig(text_config=text, vision_config=vision)),
        T5EncoderModel: T5ForConditionalGeneration(
            T5Config(vocab_size=50, d_model=32, d_kv=16, d_ff=32, num_layers=1, num_heads=2)
        ),
    }
    for kind, model in whole.items():
        model.save_pretrained(tmp_path / kind.__name__)
        part = load_whole(kind, tmp_path / kind.__name__).state_dict()
        known = {name.removeprefix("model."): tensor for name, tensor in model.state_dict().items()}
        assert all(torch.equal(tensor, known[name]) for name, tensor in part.items() if name in known)
        assert len(known.keys() & part.keys()) == len(part)


# -- not whole ---------------------------------------------------------------------------------------------------------


@KINDS
def test_what_is_missing_unknown_and_of_another_shape_is_told(made, tmp_path, kind, caplog, capfd):
    gone, bent = matrices(load_file(weights_of(made / PLACES[kind])))[:2]

    def break_it(state):
        del state[gone]
        state[bent] = torch.zeros(3, 5)
        state["one.too.many"] = torch.zeros(2)

    folder = changed(made / PLACES[kind], tmp_path / "broken", break_it)
    with pytest.raises(DataError) as told:
        load_whole(kind, folder)
    what = told.value.what
    assert f"1 missing: '{gone}'" in what and "1 unknown: 'one.too.many'" in what
    assert f"1 of another shape: '{bent}' (3, 5) instead of" in what
    assert told.value.where == str(folder) and "draws noise" in told.value.why
    assert quiet(caplog, capfd)


def test_the_libraries_speak_again_afterwards(made, tmp_path):
    from transformers.utils import logging as library

    before = library.get_verbosity(), logging.getLogger("diffusers").level
    load_whole(Qwen3Model, made / PLACES[Qwen3Model])
    load_whole(AutoencoderTiny, made / PLACES[AutoencoderTiny])
    with pytest.raises(DataError):
        load_whole(Qwen3Model, changed(made / PLACES[Qwen3Model], tmp_path / "broken", dict.clear))
    assert (library.get_verbosity(), logging.getLogger("diffusers").level) == before


@pytest.mark.parametrize("part", ["text_encoder", "text_encoder_2", "text_encoder_3", "transformer"])
def test_sd35_takes_no_folder_with_a_part_of_its_weights(made, tmp_path, part):
    shutil.copytree(made / "sd35", tmp_path / "sd35")
    shutil.rmtree(tmp_path / "sd35" / part)
    changed(made / "sd35" / part, tmp_path / "sd35" / part, lambda state: state.pop(matrices(state)[0]))
    family = SD35("tiny", vocabulary=WORDS, weights=tmp_path / "sd35")
    with pytest.raises(DataError, match="1 missing") as told:
        family.backbone() if part == "transformer" else family.text_tower()
    assert told.value.where == str(tmp_path / "sd35" / part)


def test_anima_takes_no_text_encoder_with_a_part_of_its_weights(made, tmp_path):
    def lose_a_layer(state):
        for name in [name for name in state if name.startswith("layers.1.")]:
            del state[name]

    shutil.copytree(made / "anima", tmp_path / "anima")
    shutil.rmtree(tmp_path / "anima" / "text_encoder")
    changed(made / "anima" / "text_encoder", tmp_path / "anima" / "text_encoder", lose_a_layer)
    with pytest.raises(DataError, match=r"11 missing: 'layers\.1\.input_layernorm\.weight'.* and 5 more"):
        Anima("tiny", vocabulary=WORDS, text=tmp_path / "anima").text_tower()


@pytest.mark.parametrize("kind", ["kl", "tiny", "qwen"])
def test_no_codec_loads_from_a_part_of_its_weights(made, tmp_path, kind):
    folder = changed(made / kind, tmp_path / kind, lambda state: state.pop(matrices(state)[0]))
    with pytest.raises(DataError, match="1 missing"):
        load_anima_codec(folder) if kind == "qwen" else load_codec(folder)


def test_broken_and_misnamed_files_are_told(made, tmp_path):
    for kind in (Qwen3Model, AutoencoderKL):
        folder = tmp_path / kind.__name__
        shutil.copytree(made / PLACES[kind], folder)
        file = weights_of(folder)
        file.write_bytes(file.read_bytes()[:2000])
        with pytest.raises(DataError, match=f"cannot read the weights of {kind.__name__}"):
            load_whole(kind, folder)
        file.rename(folder / "mine.safetensors")
        with pytest.raises(DataError, match=f"cannot read the weights of {kind.__name__}"):
            load_whole(kind, folder)
        (folder / "mine.safetensors").unlink()
        with pytest.raises(DataError, match=r"no \*\.safetensors"):
            load_whole(kind, folder)
        (folder / "config.json").unlink()
        with pytest.raises(DataError, match=r"no config\.json"):
            load_whole(kind, folder)


# -- another kind ------------------------------------------------------------------------------------------------------


@KINDS
@pytest.mark.parametrize("other", PLACES, ids=lambda kind: kind.__name__)
def test_another_kind_of_network_is_told(made, kind, other):
    if other is kind:
        return
    said = read_json(made / PLACES[other] / "config.json")
    name = said.get("_class_name", said.get("model_type"))
    with pytest.raises(DataError, match=f"^this is {name}, not ") as told:
        load_whole(kind, made / PLACES[other])
    assert told.value.where == str(made / PLACES[other])


def test_clip_is_no_qwen_for_anima(made, tmp_path):
    shutil.copytree(made / "anima", tmp_path / "anima")
    shutil.rmtree(tmp_path / "anima" / "text_encoder")
    shutil.copytree(made / "sd35" / "text_encoder", tmp_path / "anima" / "text_encoder")
    family = Anima("tiny", vocabulary=WORDS, text=tmp_path / "anima")
    for ask in (family.text_tower, family.sizes):
        with pytest.raises(DataError, match="this is clip_text_model, not qwen3"):
            ask()


def test_each_family_says_what_the_folder_of_the_other_holds(made, tmp_path):
    with pytest.raises(DataError, match="this is CosmosTransformer3DModel, not SD3Transformer2DModel") as told:
        SD35("tiny", vocabulary=WORDS, weights=made / "anima")
    assert told.value.where == str(made / "anima" / "transformer")
    with pytest.raises(
        ConfigError, match=r"no text_conditioner .* is SD3Transformer2DModel, not CosmosTransformer3DModel"
    ):
        Anima("tiny", vocabulary=WORDS, weights=made / "sd35")
    shutil.copytree(made / "anima", tmp_path / "mixed")
    shutil.rmtree(tmp_path / "mixed" / "transformer")
    shutil.copytree(made / "sd35" / "transformer", tmp_path / "mixed" / "transformer")
    with pytest.raises(DataError, match="this is SD3Transformer2DModel, not CosmosTransformer3DModel"):
        Anima("tiny", vocabulary=WORDS, weights=tmp_path / "mixed")


def test_a_config_without_a_size_is_told(made, tmp_path):
    shutil.copytree(made / "sd35" / "transformer", tmp_path / "transformer")
    config = read_json(tmp_path / "transformer" / "config.json")
    write_json(tmp_path / "transformer" / "config.json", {k: v for k, v in config.items() if k != "num_layers"})
    with pytest.raises(DataError, match="tells no num_layers"):
        SD35("tiny", vocabulary=WORDS, weights=tmp_path)

"""Anima's files: what is written comes back bit for bit, diffusers loads it whole, and a wrong file is told."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch
from contract import stir
from diffusers import (
    AnimaAutoBlocks,
    AnimaTextConditioner,
    AutoencoderKLQwenImage,
    CosmosTransformer3DModel,
    FlowMatchEulerDiscreteScheduler,
    ModularPipeline,
)
from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers
from safetensors.torch import load_file, save_file

from animeflow.core.errors import ConfigError, DataError
from animeflow.export.export import export
from animeflow.export.record import RunRecord
from animeflow.model.anima.codec import QwenCodec, load_anima_codec, untrained_qwen_codec
from animeflow.model.anima.family import Anima
from animeflow.model.anima.keymap import CONDITIONER, DIFFUSION, IGNORED, RELEASED, TEXT, TRANSFORMER, VAE, to_released
from animeflow.model.anima.layouts import backbone_notes, codec_notes
from animeflow.model.anima.load import (
    check_flavour,
    find_weights,
    stored_codec_state,
    stored_shape,
    stored_state,
    stored_text_state,
)
from animeflow.model.anima.shapes import SHAPES
from animeflow.model.codec import TinyCodec
from animeflow.model.names import prefixed, without
from animeflow.model.tensor_file import cast, read_metadata
from animeflow.model.toon_codec import untrained_codec

WORDS = ["blue hair", "1girl", "night"]
META = {"modelspec.title": "toon", "animeflow.run": "test"}
WITH_BACKBONE = ["diffusers", "single_file", "diffusion_only", "comfyui"]


@pytest.fixture(scope="module")
def family() -> Anima:
    """`anima/tiny` with every weight stirred; not for changing."""
    tiny = Anima("tiny", vocabulary=WORDS, depth=2, heads=2, text_floor=16, codec=untrained_qwen_codec(seed=1))
    stir(tiny.backbone())
    return tiny


@pytest.fixture(scope="module")
def state(family) -> dict[str, torch.Tensor]:
    return family.backbone().export_state()


@pytest.fixture(scope="module")
def tree(family, state, tmp_path_factory):
    """Every layout in float32, one folder each."""
    root = tmp_path_factory.mktemp("layouts")
    for name, layout in family.layouts().items():
        (root / name).mkdir()
        layout.write(state, root / name, dtype=torch.float32, metadata=META, stem="anima-toon")
    return root


def assert_same(a, b) -> None:
    assert a.keys() == b.keys()
    assert not [name for name in a if a[name].dtype != b[name].dtype or not torch.equal(a[name], b[name])]


def files_in(folder) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


# -- what is written ---------------------------------------------------------------------------------------------------


def test_an_export_holds_every_weight_and_nothing_else(family, state):
    backbone = family.backbone()
    trained = prefixed(dict(backbone.net.named_parameters()), TRANSFORMER)
    trained |= prefixed(dict(backbone.adapter.named_parameters()), CONDITIONER)
    assert state.keys() == trained.keys()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", WITH_BACKBONE)
def test_reading_gives_back_what_was_written(family, state, tmp_path, name, dtype):
    layout = family.layouts()[name]
    files = layout.write(state, tmp_path, dtype=dtype, metadata=META)
    assert {file for file in tmp_path.rglob("*") if file.is_file()} == set(files)
    assert_same(layout.read(tmp_path), cast(state, dtype))


def test_the_released_file_is_dit_and_adapter_behind_net(tree, state):
    file = tree / "diffusion_only" / "anima-toon.safetensors"
    assert_same(load_file(file), prefixed(to_released(state), RELEASED))
    assert read_metadata(file)["format"] == "pt" and read_metadata(file)["modelspec.title"] == "toon"


def test_comfyui_tree_has_the_three_released_files(tree, family):
    folder = tree / "comfyui"
    encoder, vae = "text_encoders/qwen_3_06b_base.safetensors", "vae/qwen_image_vae.safetensors"
    assert files_in(folder) == {"diffusion_models/anima-toon.safetensors", encoder, vae}
    assert_same(load_file(folder / encoder), prefixed(family.text_tower().model.state_dict(), "model."))
    assert {"conv1.weight", "encoder.downsamples.0.residual.0.gamma"} <= load_file(folder / vae).keys()
    assert not [file for file in (encoder, vae) if any("modelspec" in key for key in read_metadata(folder / file))]


def test_parts_alone_are_the_files_of_the_tree(tree):
    for name, folder in (("text_encoders", "text_encoders"), ("vae", "vae")):
        assert files_in(tree / name) == files_in(tree / "comfyui" / folder)
        for file in files_in(tree / name):
            assert (tree / name / file).read_bytes() == (tree / "comfyui" / folder / file).read_bytes()


def test_all_in_one_has_the_three_prefixes_of_comfyui(tree):
    names = load_file(tree / "single_file" / "anima-toon.safetensors").keys()
    assert {next(known for known in (DIFFUSION, VAE, TEXT) if name.startswith(known)) for name in names} == {
        DIFFUSION,
        VAE,
        TEXT,
    }
    assert {f"{DIFFUSION}llm_adapter.embed.weight", f"{VAE}conv1.weight", f"{TEXT}model.norm.weight"} <= names


def test_the_autoencoders_file_is_what_diffusers_converts(family, tmp_path):
    """With the depth of the released one, which is all that diffusers' converter knows."""
    with torch.random.fork_rng(devices=[]):
        net = AutoencoderKLQwenImage(base_dim=8)
    other = Anima("tiny", vocabulary=WORDS, codec=QwenCodec(net))
    other.layouts()["vae"].write({}, tmp_path, dtype=torch.float32, metadata={})
    file = tmp_path / "qwen_image_vae.safetensors"
    assert_same(convert_wan_vae_to_diffusers(load_file(file)), net.state_dict())
    assert_same(stored_codec_state(file), net.state_dict())
    assert codec_notes(QwenCodec(net)) == []


# -- diffusers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_modular_pipeline_loads_a_moved_folder_bit_for_bit(family, state, tmp_path, dtype):
    first, moved = tmp_path / "first", tmp_path / "moved"
    first.mkdir()
    family.layouts()["diffusers"].write(state, first, dtype=dtype, metadata={})
    shutil.move(first, moved)
    pipe = ModularPipeline.from_pretrained(moved, local_files_only=True)
    pipe.load_components(dtype=dtype, local_files_only=True)
    assert not [name for name, part in pipe.components.items() if part is None]
    found = prefixed(pipe.transformer.state_dict(), TRANSFORMER) | prefixed(
        pipe.text_conditioner.state_dict(), CONDITIONER
    )
    full = {
        name for name in found if "learnable_pos_embed" in name
    }  # diffusers computes these in float32 whatever is asked
    assert full and all(found[name].dtype == torch.float32 for name in full)
    assert_same({name: tensor.to(dtype) for name, tensor in found.items()}, cast(state, dtype))
    assert_same(pipe.vae.state_dict(), cast(family.codec().net.state_dict(), dtype))
    assert_same(pipe.text_encoder.state_dict(), cast(family.text_tower().model.state_dict(), dtype))
    assert pipe.scheduler.config.shift == 3.0
    prompt = "1girl, blue hair\\(night\\)"
    for ours, theirs in (
        (family.text_tower().tokenizer, pipe.tokenizer),
        (family.text_tower().t5_tokenizer, pipe.t5_tokenizer),
    ):
        assert ours(prompt)["input_ids"] == theirs(prompt)["input_ids"]


def test_a_bf16_folder_loads_in_one_dtype_unless_told(family, state, tmp_path):
    """transformers would follow the dtype of its config, diffusers' own parts do not."""
    family.layouts()["diffusers"].write(state, tmp_path, dtype=torch.bfloat16, metadata={})
    pipe = ModularPipeline.from_pretrained(tmp_path, local_files_only=True)
    pipe.load_components(local_files_only=True)
    parts = (pipe.transformer, pipe.text_conditioner, pipe.text_encoder, pipe.vae)
    assert {part.dtype for part in parts} == {torch.float32}


def test_the_index_is_the_one_that_diffusers_writes(family, tree, tmp_path):
    """But for the place, which diffusers writes as an absolute path."""
    shape, tower = family.shape, family.text_tower()
    pipe = AnimaAutoBlocks().init_pipeline()
    with torch.device("meta"):
        transformer = CosmosTransformer3DModel(**shape.transformer_config())
        conditioner = AnimaTextConditioner(**shape.conditioner_config())
    pipe.update_components(
        transformer=transformer,
        text_conditioner=conditioner,
        vae=family.codec().net,
        text_encoder=tower.model,
        tokenizer=tower.tokenizer,
        t5_tokenizer=tower.t5_tokenizer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )
    pipe.save_config(tmp_path)
    theirs = json.loads((tmp_path / "modular_model_index.json").read_text())
    ours = json.loads((tree / "diffusers" / "modular_model_index.json").read_text())
    assert ours.keys() == theirs.keys()
    for name, entry in ours.items():
        if isinstance(entry, list):
            assert [part.replace("Fast", "") for part in entry[:2]] == theirs[name][:2]  # two names of one class
            assert entry[2]["subfolder"] == name and entry[2]["pretrained_model_name_or_path"] is None
            assert entry[2].keys() == theirs[name][2].keys() and (tree / "diffusers" / name).is_dir()


def test_no_path_of_this_machine_is_in_any_file(tree, tmp_path):
    """Also after a round trip, when every part knows the folder it came from."""
    again = Anima("tiny", weights=tree / "diffusers")
    again.layouts()["diffusers"].write(again.backbone().export_state(), tmp_path, dtype=torch.float32, metadata={})
    assert files_in(tmp_path) == files_in(tree / "diffusers")
    for file in files_in(tmp_path):
        content = (tmp_path / file).read_bytes()
        assert str(tree).encode() not in content and str(tmp_path).encode() not in content, file


def test_a_small_autoencoder_is_left_out_where_nobody_could_use_it(state, tmp_path):
    small = Anima("tiny", vocabulary=WORDS, depth=2, heads=2, text_floor=16, codec=untrained_codec(seed=1))
    for name, layout in small.layouts().items():
        (tmp_path / name).mkdir()
        layout.write(state, tmp_path / name, dtype=torch.float32, metadata={})
        said = " ".join(layout.notes())
        assert ("AutoencoderTiny" in said) == (name in {"diffusers", "single_file", "vae", "comfyui"}), name
    assert files_in(tmp_path / "vae") == set() and not (tmp_path / "comfyui" / "vae").exists()
    assert not [name for name in load_file(tmp_path / "single_file" / "model.safetensors") if name.startswith(VAE)]
    assert "vae" not in json.loads((tmp_path / "diffusers" / "modular_model_index.json").read_text())
    assert isinstance(load_anima_codec(tmp_path / "diffusers" / "vae"), TinyCodec)
    assert load_anima_codec(tmp_path / "diffusers" / "vae").fingerprint == small.codec().fingerprint
    config = json.loads((tmp_path / "diffusers" / "vae" / "config.json").read_text())
    assert "block_out_channels" not in config  # diffusers writes it and then complains about it


# -- import ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WITH_BACKBONE)
def test_an_export_starts_a_family_with_equal_weights(tree, family, state, name):
    place = find_weights(tree / name)
    again = Anima("tiny", weights=place, text_floor=16)
    assert again.shape == family.shape
    assert_same(again.backbone().export_state(), state)


def test_codec_and_text_encoder_come_from_their_files_and_from_the_all_in_one(tree, family):
    whole = tree / "single_file" / "anima-toon.safetensors"
    for file in (
        tree / "vae" / "qwen_image_vae.safetensors",
        whole,
        tree / "diffusers/vae/diffusion_pytorch_model.safetensors",
    ):
        assert_same(stored_codec_state(file), family.codec().net.state_dict())
    for file in (
        tree / "text_encoders" / "qwen_3_06b_base.safetensors",
        whole,
        tree / "diffusers/text_encoder/model.safetensors",
    ):
        assert_same(stored_text_state(file), family.text_tower().model.state_dict())


def test_weights_in_several_files_are_read_together(family, state, tmp_path):
    family.backbone().net.save_pretrained(tmp_path / "transformer", max_shard_size="1MB")
    family.backbone().adapter.save_pretrained(tmp_path / "text_conditioner", max_shard_size="1MB")
    assert len(list((tmp_path / "transformer").glob("*.safetensors"))) > 1
    assert_same(stored_state(tmp_path), state)
    assert stored_shape(tmp_path) == family.shape


@pytest.mark.parametrize("prefix", [RELEASED, DIFFUSION, ""])
def test_constants_of_kohyas_saves_are_ignored_behind_every_prefix(state, family, tmp_path, prefix):
    file = tmp_path / "kohya.safetensors"
    save_file(prefixed(to_released(state) | {name: torch.zeros(3) for name in IGNORED}, prefix), file)
    assert_same(stored_state(file), state)
    assert stored_shape(file, like=family.shape) == family.shape


def test_names_of_our_export_and_of_a_bf16_file_are_read(state, tmp_path):
    save_file(cast(state, torch.bfloat16), tmp_path / "ours.safetensors")
    assert_same(stored_state(tmp_path / "ours.safetensors"), cast(state, torch.bfloat16))


def test_what_a_single_file_does_not_tell_is_the_flavours(tree, family, state, tmp_path):
    file = tree / "diffusion_only" / "anima-toon.safetensors"
    unknown = {"text_floor": 99, "rope_scale": (1.0, 2.0, 3.0), "max_size": (1, 9, 9)}
    other = replace(SHAPES["base"], **unknown)
    learned = {
        "max_size": family.shape.max_size
    }  # a code of positions that was learned has an end, which the file tells
    assert stored_shape(file, like=other) == replace(family.shape, **unknown | learned)
    rotary = {name: tensor for name, tensor in state.items() if "learnable_pos_embed" not in name}
    save_file(cast(rotary, torch.bfloat16), tmp_path / "rotary.safetensors")
    expected = replace(family.shape, **unknown, learned_positions=False)
    assert stored_shape(tmp_path / "rotary.safetensors", like=other) == expected


def test_another_flavour_is_refused(family):
    check_flavour("tiny", family.shape, {"num_layers": None}, where="here")
    check_flavour("base", replace(SHAPES["base"], max_size=(1, 9, 9)), {}, where="here")
    with pytest.raises(ConfigError, match=r"not anima/base: num_layers 2 instead of 28"):
        check_flavour("base", family.shape, {}, where="here")
    with pytest.raises(ConfigError, match=r"num_layers 2 instead of 7"):
        check_flavour("tiny", family.shape, {"num_layers": 7}, where="here")


# -- wrong files -------------------------------------------------------------------------------------------------------


def test_a_wrong_file_is_told_with_its_name(tree, state, tmp_path):
    released = prefixed(to_released(state), RELEASED)
    wrong = {
        "sd35": (
            {"model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight": torch.zeros(1)},
            "not those of a released Anima file",
        ),
        "no_adapter": ({k: v for k, v in released.items() if "llm_adapter" not in k}, "no text adapter"),
        "too_many": (released | {"net.extra.weight": torch.zeros(1)}, r"1 unknown: 'extra.weight'"),
        "two_kinds": (released | {"extra.weight": torch.zeros(1)}, "belong to no known part"),
        "codec": (load_file(tree / "vae" / "qwen_image_vae.safetensors"), "not those of a released Anima file"),
    }
    for name, (tensors, said) in wrong.items():
        file = tmp_path / f"{name}.safetensors"
        save_file(tensors, file)
        for read in (stored_state, stored_shape):
            with pytest.raises(DataError, match=rf"{said}(?s:.)*where: .*{name}.safetensors"):
                read(file)
    with pytest.raises(DataError, match="not those of an original Qwen-Image autoencoder"):
        stored_codec_state(tmp_path / "no_adapter.safetensors")
    with pytest.raises(DataError, match="not those of a Qwen3 text encoder"):
        stored_text_state(tmp_path / "codec.safetensors")


def test_a_truncated_file_and_an_absent_one_are_told(tree, tmp_path):
    file = tmp_path / "half.safetensors"
    file.write_bytes((tree / "diffusion_only" / "anima-toon.safetensors").read_bytes()[:-1000])
    for read in (stored_state, stored_shape, stored_codec_state, stored_text_state):
        with pytest.raises(DataError, match="no whole safetensors file"):
            read(file)
        with pytest.raises(ConfigError, match="no weights at"):
            read(tmp_path / "absent.safetensors")


def test_a_folder_without_the_adapter_or_of_another_network_is_told(tree, tmp_path):
    shutil.copytree(tree / "diffusers" / "transformer", tmp_path / "transformer")
    for read in (stored_state, stored_shape):
        with pytest.raises(ConfigError, match=r"no text_conditioner in(?s:.)*part of Anima's backbone"):
            read(tmp_path)
        with pytest.raises(ConfigError, match="no transformer and no text_conditioner in"):
            read(tmp_path / "transformer")
    shutil.copytree(tree / "diffusers" / "text_conditioner", tmp_path / "text_conditioner")
    config = tmp_path / "transformer" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"concat_padding_mask": False}))
    with pytest.raises(DataError, match="concat_padding_mask False instead of True"):
        stored_shape(tmp_path)


def test_an_incomplete_part_of_a_diffusers_folder_is_told(tree, tmp_path):
    shutil.copytree(tree / "diffusers", tmp_path / "copy")
    weights = "diffusion_pytorch_model.safetensors"
    for part, read, name in (
        ("transformer", lambda: stored_state(tmp_path / "copy"), "proj_out.weight"),
        ("vae", lambda: stored_codec_state(tmp_path / "copy" / "vae" / weights), "decoder.conv_in.bias"),
    ):
        tensors = load_file(tmp_path / "copy" / part / weights)
        del tensors[name]
        save_file(tensors, tmp_path / "copy" / part / weights)
        with pytest.raises(DataError, match=f"1 missing: '.*{name}'"):
            read()


def test_weights_of_another_shape_are_not_written(family, state, tmp_path):
    name = f"{CONDITIONER}out_proj.bias"
    with pytest.raises(DataError, match=r"the text_conditioner of anima/tiny, first 'out_proj.bias'"):
        family.layouts()["diffusers"].write(
            state | {name: state[name][:-1]}, tmp_path, dtype=torch.float32, metadata={}
        )


@pytest.mark.parametrize("name", ["text_encoders", "vae"])
def test_a_part_alone_holds_no_backbone(tree, family, name):
    assert not family.layouts()[name].has_backbone
    with pytest.raises(DataError, match="holds no backbone"):
        family.layouts()[name].read(tree / name)


# -- the export room ---------------------------------------------------------------------------------------------------


def test_the_export_room_writes_every_layout(family, state, tmp_path):
    report = export(family, state, tmp_path / "out", layouts=list(family.layouts()), record=RunRecord())
    assert (tmp_path / "out" / "diffusion_only" / "anima-tiny.safetensors").is_file()
    card = (tmp_path / "out" / "README.md").read_text()
    assert "ModularPipeline.from_pretrained" in card and "ComfyUI/models/text_encoders" in card
    assert any("cannot load a model of another size" in note for note in report.notes)
    assert read_metadata(tmp_path / "out" / "diffusion_only" / "anima-tiny.safetensors")[
        "modelspec.architecture"
    ].startswith("anima")
    assert (
        without(stored_state(find_weights(tmp_path / "out")), TRANSFORMER).keys() == without(state, TRANSFORMER).keys()
    )


def test_the_released_size_has_no_complaint_but_about_the_empty_prompt():
    base = Anima("base")
    assert [note for note in backbone_notes(base) if "empty prompt" not in note] == []
    assert len(backbone_notes(base)) == 1 and backbone_notes(Anima("base", empty_prompt="comfy")) == []

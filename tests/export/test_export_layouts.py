"""What is written loads in diffusers with nothing left over, gives the same velocity, and names no path of this machine."""

from __future__ import annotations

import logging

import pytest
import torch
from diffusers import AutoencoderKL, SD3Transformer2DModel, StableDiffusion3Pipeline
from safetensors.torch import load_file
from small_models import stirred

from animeflow.core.errors import DataError
from animeflow.core.seed import normal
from animeflow.model.codec import TinyCodec
from animeflow.model.sd35.family import SD35
from animeflow.model.sd35.keymap import DIFFUSION, VAE
from animeflow.model.sd35.layouts import backbone_notes
from animeflow.model.sd35.shapes import shape
from animeflow.model.tensor_file import cast, read_metadata, write_tensors

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
META = {"modelspec.title": "toon", "animeflow.run": "test"}


@pytest.fixture(scope="session")
def tree(family, state, tmp_path_factory):
    """Every layout in float32, one folder each."""
    root = tmp_path_factory.mktemp("layouts")
    for name, layout in family.layouts().items():
        (root / name).mkdir()
        layout.write(state, root / name, dtype=torch.float32, metadata=META, stem="toon")
    return root


@pytest.fixture(scope="session")
def pipeline(tree):
    pipe = StableDiffusion3Pipeline.from_pretrained(tree / "diffusers", local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def batch(family):
    prompts = ["1girl, blue hair, night", "red eyes"]
    tower = family.text_tower()
    return normal((2, 16, 8, 6), "x"), torch.tensor([0.981, 0.3]), tower.collate(tower.encode(prompts)), prompts


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ["diffusers", "single_file", "diffusion_only", "comfyui"])
def test_reading_gives_back_what_was_written(family, state, tmp_path, name, dtype):
    layout = family.layouts()[name]
    files = layout.write(state, tmp_path, dtype=dtype, metadata=META)
    assert {file for file in tmp_path.rglob("*") if file.is_file()} == set(files)
    found, expected = layout.read(tmp_path), cast(state, dtype)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) and found[key].dtype == dtype for key in expected)


def test_single_file_holds_diffusion_and_autoencoder(tree, state):
    whole, alone = (load_file(tree / name / "toon.safetensors") for name in ("single_file", "diffusion_only"))
    assert {name.startswith((DIFFUSION, VAE)) for name in whole} == {True}
    assert whole.keys() - alone.keys() == {name for name in whole if name.startswith(VAE)}
    assert f"{DIFFUSION}pos_embed" in alone


def test_diffusers_loads_the_single_file_exactly(tree, family, state):
    file = tree / "single_file" / "toon.safetensors"
    config = tree / "diffusers"
    network = SD3Transformer2DModel.from_single_file(
        str(file), config=str(config / "transformer"), local_files_only=True
    )
    assert max((network.state_dict()[name] - state[name]).abs().max() for name in state) == 0
    vae = AutoencoderKL.from_single_file(str(file), config=str(config / "vae"), local_files_only=True)
    ours = family.codec().net.state_dict()
    assert vae.state_dict().keys() == ours.keys()
    assert all(torch.equal(vae.state_dict()[name], ours[name]) for name in ours)


def test_pipeline_gives_the_velocity_of_our_backbone(pipeline, family):
    x, t, cond, _ = batch(family)
    with torch.no_grad():
        ours = family.backbone()(x, t, cond)
        theirs = pipeline.transformer(
            hidden_states=x,
            encoder_hidden_states=cond["text"].float(),
            pooled_projections=cond["pooled"].float(),
            timestep=1000 * t,
            return_dict=False,
        )[0]
    assert ours.std() > 1e-2
    assert (ours - theirs).abs().max() <= 1e-5


def test_pipeline_encodes_prompts_as_our_tower_does(pipeline, family):
    """Up to bf16, in which the tower stores its rows."""
    _, _, cond, prompts = batch(family)
    text, _, pooled, _ = pipeline.encode_prompt(
        prompts, None, None, do_classifier_free_guidance=False, max_sequence_length=family.t5_length.length
    )
    assert torch.equal(text.bfloat16(), cond["text"].bfloat16())
    assert torch.equal(pooled.bfloat16(), cond["pooled"].bfloat16())


def test_pipeline_keeps_shift_and_autoencoder(pipeline, family):
    assert pipeline.scheduler.config.shift == family.defaults.shift
    assert pipeline.vae.config.scaling_factor == 1.5305 and pipeline.vae.config.shift_factor == 0.0609


@pytest.mark.parametrize("with_t5", [True, False])
@pytest.mark.parametrize("told", [None, torch.bfloat16], ids=str)
def test_a_bf16_export_draws_offline(family, tmp_path, with_t5, told):
    """Loaded with and without `torch_dtype`; transformers would follow the dtype of its config, diffusers' parts would not."""
    other = SD35("tiny", vocabulary=["night"], clip_length=8, with_t5=with_t5, codec=family.codec())
    other.layouts()["diffusers"].write(other.backbone().export_state(), tmp_path, dtype=torch.bfloat16, metadata={})
    absent = {} if with_t5 else {"text_encoder_3": None, "tokenizer_3": None}
    pipe = StableDiffusion3Pipeline.from_pretrained(tmp_path, local_files_only=True, torch_dtype=told, **absent)
    pipe.set_progress_bar_config(disable=True)
    options = {"height": 64, "width": 48, "num_inference_steps": 2, "max_sequence_length": 8, "output_type": "np"}
    assert pipe("night", **options).images.shape == (1, 64, 48, 3)


def test_no_path_of_this_machine_is_in_any_file(family, state, tmp_path):
    """Also after a round trip, when every part knows the folder it came from."""
    first, second = tmp_path / "first_export", tmp_path / "second_export"
    first.mkdir()
    second.mkdir()
    family.layouts()["diffusers"].write(state, first, dtype=torch.float32, metadata={})
    again = SD35("tiny", weights=first, codec=first / "vae", text=first)
    again.layouts()["diffusers"].write(again.backbone().export_state(), second, dtype=torch.float32, metadata={})
    for file in (file for file in second.rglob("*") if file.is_file()):
        content = file.read_bytes()
        assert str(tmp_path).encode() not in content and b"first_export" not in content, file


def test_text_encoders_have_the_names_comfyui_knows(tree):
    folder = tree / "text_encoders"
    assert sorted(file.name for file in folder.iterdir()) == [
        "clip_g.safetensors",
        "clip_l.safetensors",
        "t5xxl.safetensors",
    ]
    for name in ("clip_l", "clip_g"):
        clip = load_file(folder / f"{name}.safetensors")
        assert {"text_model.encoder.layers.1.mlp.fc1.weight", "text_projection.weight"} <= clip.keys()
    t5 = load_file(folder / "t5xxl.safetensors")
    assert {
        "shared.weight",
        "encoder.final_layer_norm.weight",
        "encoder.block.0.layer.0.SelfAttention.q.weight",
    } <= t5.keys()
    assert not [name for name in t5 if "embed_tokens" in name]


def test_text_encoders_hold_no_backbone(tree, family):
    layout = family.layouts()["text_encoders"]
    assert not layout.has_backbone
    with pytest.raises(DataError, match="no backbone"):
        layout.read(tree / "text_encoders")


def test_comfyui_tree_has_the_folders_of_comfyui(tree):
    files = {file.relative_to(tree / "comfyui").as_posix() for file in (tree / "comfyui").rglob("*.safetensors")}
    encoders = {f"text_encoders/{name}.safetensors" for name in ("clip_l", "clip_g", "t5xxl")}
    assert files == {"checkpoints/toon.safetensors", *encoders}


def test_a_tiny_autoencoder_leaves_the_diffusion_model_alone_and_says_so(state, tmp_path, caplog):
    family = SD35("tiny", vocabulary=["night"])
    with caplog.at_level(logging.INFO, logger="animeflow"):
        for name in ("single_file", "comfyui"):
            (tmp_path / name).mkdir()
            family.layouts()[name].write(state, tmp_path / name, dtype=torch.float32, metadata={})
    assert not [name for name in load_file(tmp_path / "single_file" / "model.safetensors") if name.startswith(VAE)]
    assert "holds the diffusion model alone" in caplog.text
    assert (tmp_path / "comfyui" / "diffusion_models" / "model.safetensors").is_file()
    assert any("TAESD" in note for note in family.layouts()["comfyui"].notes())


def test_the_real_taesd_goes_into_comfyuis_own_names(state, tmp_path, test_data):
    """ComfyUI's loader puts `taesd_encoder.` and `taesd_decoder.` before the names of the two released files."""
    source = test_data / "weights" / "taesd3"
    family = SD35("tiny", vocabulary=["night"], codec=TinyCodec.load(source))
    family.layouts()["comfyui"].write(state, tmp_path, dtype=torch.float32, metadata={}, stem="toon")
    found = load_file(tmp_path / "vae" / "toon_taesd.safetensors")
    for half in ("encoder", "decoder"):
        for name, tensor in load_file(source / f"{half}.safetensors").items():
            assert torch.equal(found.pop(f"taesd_{half}.{name}"), tensor.float())
    assert {name: round(tensor.item(), 4) for name, tensor in found.items()} == {
        "vae_scale": 1.5305,
        "vae_shift": 0.0609,
    }


def test_a_number_too_large_for_fp16_is_named(family, state, tmp_path):
    name = "transformer_blocks.1.ff.net.2.weight"
    large = dict(state) | {name: state[name].clone()}
    large[name][0, 0] = 70000.0
    with pytest.raises(DataError, match=r"ff.net.2.weight.* does not fit into torch.float16: it holds 70000"):
        family.layouts()["diffusers"].write(large, tmp_path, dtype=torch.float16, metadata={})
    large[name][0, 0] = float("nan")
    with pytest.raises(DataError, match="1 numbers that are not finite"):
        family.layouts()["diffusers"].write(large, tmp_path, dtype=torch.float32, metadata={})


def test_weights_of_another_shape_are_refused(family, state, tmp_path):
    other = {name: tensor[..., :-1] if name == "context_embedder.weight" else tensor for name, tensor in state.items()}
    with pytest.raises(DataError, match=r"another shape.*context_embedder.weight"):
        family.layouts()["diffusers"].write(other, tmp_path, dtype=torch.float32, metadata={})


def test_files_are_reproducible_and_readable_by_all(tmp_path):
    tensors = stirred(torch.nn.Linear(5, 3)).state_dict()
    meta = {f"modelspec.key_{number}": 'ü "quoted" \n' for number in range(20)}
    one, two = (write_tensors(tmp_path / name, tensors, meta) for name in ("one.safetensors", "two.safetensors"))
    assert one.read_bytes() == two.read_bytes()
    assert one.stat().st_mode & 0o444 == 0o444
    assert {key: value for key, value in read_metadata(one).items() if key in meta} == meta


def test_a_broken_file_is_told(tmp_path, family):
    (tmp_path / "half.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{}")
    with pytest.raises(DataError, match="no whole safetensors file"):
        family.layouts()["single_file"].read(tmp_path / "half.safetensors")


def test_released_shapes_fit_comfyui():
    assert backbone_notes(shape("medium")) == [] and backbone_notes(shape("large")) == []
    assert len(backbone_notes(shape("tiny", num_layers=2))) == 2

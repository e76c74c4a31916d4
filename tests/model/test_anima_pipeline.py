"""A whole picture: our sampler against diffusers' Anima pipeline, loaded from our export."""

from __future__ import annotations

import shutil
import types

import diffusers.models.transformers.transformer_cosmos as cosmos
import numpy as np
import pytest
import torch
from contract import stir
from diffusers import ClassifierFreeGuidance, ModularPipeline
from torch.nn import functional as F

from animeflow.model.anima.family import Anima
from animeflow.model.toon_codec import untrained_codec
from animeflow.sample.generate import generate, initial_noise

WORDS = ["blue", "red", "hair", "eyes", "a", "girl", "with", "long", ","]
PROMPT, NEGATIVE = "a girl with long blue hair", "red eyes, hair"
HEIGHT, WIDTH, STEPS, CFG = 64, 96, 6, 3.0


@pytest.fixture(scope="module")
def family() -> Anima:
    family = Anima("tiny", vocabulary=WORDS, adapter="train", seed=2)
    stir(family.backbone()).eval()
    family.text_tower().row_dtype = torch.float32  # bf16 is how rows are stored; diffusers keeps float32
    return family


@pytest.fixture(scope="module")
def folder(family, tmp_path_factory):
    """The export, moved after it was written: nothing in it may know where it lay."""
    written, moved = tmp_path_factory.mktemp("export") / "first", tmp_path_factory.mktemp("moved") / "there"
    written.mkdir()
    family.layouts()["diffusers"].write(family.backbone().export_state(), written, dtype=torch.float32, metadata={})
    shutil.move(written, moved)
    return moved


@pytest.fixture
def torchvisions_resize(monkeypatch):
    """diffusers' forward asks torchvision for this, which a CPU install need not have."""

    def resize(mask, size, interpolation=None):
        return F.interpolate(mask, size=size, mode="nearest")

    transforms = types.SimpleNamespace(
        functional=types.SimpleNamespace(resize=resize), InterpolationMode=types.SimpleNamespace(NEAREST=0)
    )
    monkeypatch.setattr(cosmos, "transforms", transforms, raising=False)


@pytest.mark.parametrize("negative", [NEGATIVE, ""])
def test_a_sampled_picture_is_that_of_diffusers(family, folder, torchvisions_resize, negative):
    pipeline = ModularPipeline.from_pretrained(folder)
    pipeline.load_components(dtype=torch.float32)
    pipeline.update_components(guider=ClassifierFreeGuidance(guidance_scale=CFG))
    noise = initial_noise(7, 16, HEIGHT // 8, WIDTH // 8)
    options = {"num_inference_steps": STEPS, "height": HEIGHT, "width": WIDTH}
    state = pipeline(prompt=PROMPT, negative_prompt=negative, latents=noise[None, :, None], output_type="pt", **options)
    found = generate(
        family, [PROMPT], seeds=[7], height=HEIGHT, width=WIDTH, steps=STEPS, cfg=CFG, shift=3.0,
        solver="euler", schedule="linear", negative=negative,
    )[0]  # fmt: skip
    theirs = state.values["images"][0].permute(1, 2, 0).numpy() * 255
    latents = state.values["latents"][:, :, 0]
    with torch.no_grad():
        expected = family.codec().decode(latents)[0]
    assert np.abs(theirs / 255 * 2 - 1 - expected.permute(1, 2, 0).numpy()).max() < 1e-4
    assert np.abs(theirs - found.pixels).max() <= 0.5 + 255 / 2 * 1e-4  # half a level of rounding, and 1e-4
    assert np.abs(theirs - theirs.mean()).max() > 5  # a grey picture would agree with anything


def test_the_card_of_a_small_codec_shows_how_diffusers_gives_its_latents(
    family, tmp_path, torchvisions_resize, monkeypatch
):
    """Its autoencoder is none that the pipeline can use, so the plain example would end in an error. The code shown is run."""
    small = Anima("tiny", vocabulary=WORDS, adapter="train", codec=untrained_codec())
    layout = small.layouts()["diffusers"]
    layout.write(small.backbone().export_state(), tmp_path / "diffusers", dtype=torch.float32, metadata={})
    monkeypatch.chdir(tmp_path)
    shown = layout.example.removeprefix("```python\n").removesuffix("```")
    found: dict = {}
    exec(shown.replace("num_inference_steps=30", "num_inference_steps=2").replace("1girl", "blue hair"), found)
    assert found["latents"].shape == (1, 16, 1, 12, 12) and found["latents"].isfinite().all()
    assert 'pop("decode")' not in family.layouts()["diffusers"].example

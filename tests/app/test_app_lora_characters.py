"""Three real characters, each trained from her own folder through a real 16-channel autoencoder, from pictures to files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from animeflow import train_lora
from animeflow.app.bases import tiny_base
from animeflow.app.compose import compose
from animeflow.catalogue.table import Catalogue
from animeflow.learn.files import read_lora

FAMILY = "sd35"  # its latents have 16 channels
CHARACTERS = {"eileen": "renpy/eileen_*.png", "sylvie": "thequestion/*sylvie*.png", "sachi": "sachi/*"}
FEW = {
    "train.images": 16, "train.log_every_images": 8, "train.checkpoint_every_images": 16, "train.validate.every_images": 16,
    "train.samples.every_images": 16, "train.threads": 1, "evaluate.steps": 2, "sample.steps": 2, "learn.rank": 4,
    "data.shard.min_side": 0, "recipe.prior.kind": "none",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", CHARACTERS)
def test_a_character_is_trained_from_her_own_folder(test_data: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    pictures = sorted((test_data / "images").glob(CHARACTERS[name]))
    assert len(pictures) >= 3
    for path in pictures:
        shutil.copy(path, folder)
    base = base_with_real_codec(tmp_path / "base", test_data)
    result = train_lora(
        folder, base=base, settings=FEW | {"set": str(tmp_path / "set"), "run": str(tmp_path / "run"), "name": name}
    )
    config = compose(result.words)
    assert config["text"]["concepts"][name]["trigger"] == name
    catalogue = Catalogue(tmp_path / "set" / "catalogue")
    assert {post.source for post in catalogue.posts()} == {name}
    assert len(catalogue) + len(catalogue.rejections) == len(pictures)
    index = json.loads(next((tmp_path / "set" / "cache").rglob("latest.json")).read_text())
    assert index
    for dialect, path in result.files.items():
        found = read_lora(path, family=FAMILY)
        assert found.dialect == dialect and any(bool(each.up.any()) for each in found.state.values())
    assert result.files["kohya"].name == f"{name}.safetensors"
    assert (tmp_path / "run" / "before_after.png").is_file() and result.report is not None


def base_with_real_codec(folder: Path, data: Path) -> Path:
    """The small base of the family with 16-channel latents, with the small released autoencoder for them in place of its own."""
    shutil.copytree(tiny_base(FAMILY), folder)
    shutil.rmtree(folder / "vae")
    shutil.copytree(data / "weights" / "taesd3", folder / "vae")
    return folder

"""`animeflow sample sample.source=EXPORT` and nothing else, for every family: the record says what the command line does not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from animeflow.app.cli import main
from animeflow.app.compose import compose
from animeflow.app.weights import exported_family
from animeflow.core.errors import ConfigError
from animeflow.core.files import read_json, write_json
from animeflow.export.export import export
from animeflow.export.record import RunRecord
from animeflow.model import registry
from animeflow.sample import png

FAST = ("sample.solver=euler", "sample.steps=1", "train.device=cpu", "train.threads=1")


@pytest.fixture(scope="module", params=registry.names())
def exported(request, tmp_path_factory) -> Path:
    """The export of an untrained tiny model of a family: a folder with everything and, beside it, the backbone alone."""
    family = registry.constructor(request.param)("tiny")
    parts = {"codec": family.codec().fingerprint, "text": family.text_tower().fingerprint}
    record = RunRecord(name="small", resolution="32x64", images_seen=640, parts=parts, ema={"exported": True})
    out = tmp_path_factory.mktemp(request.param, numbered=False) / "export"
    layouts = ("diffusers", "diffusion_only")
    export(family, family.backbone().export_state(), out, layouts=layouts, dtype="fp32", record=record)
    return out


def sampled(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(main, ["sample", *FAST, *words])
    assert done.exit_code == code, done.output
    return done.output


@pytest.mark.parametrize("below", ["", "diffusers"])
def test_an_export_is_sampled_by_its_path_alone(exported, below, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sampled(f"sample.source={exported / below}", 'sample.prompts=["1girl"]')
    recipe = png.read_recipe(tmp_path / "runs/small/pictures/000_0.png")
    assert recipe["model"]["name"] == exported.parent.name
    assert (recipe["height"], recipe["width"]) == (64, 32)
    assert recipe["weights"] == {"run": "small", "images_seen": 640, "kind": "ema", "source": "diffusers"}
    assert str(exported) not in str(recipe)


def test_a_layout_without_the_codec_says_so_and_takes_a_given_one(exported, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = (f"sample.source={exported / 'diffusion_only'}", "sample.prompts=1girl")
    said = sampled(*words, code=2)
    assert "no codec" in said and "diffusion_only" in said and "model.codec=" in said
    sampled(*words, f"model.codec={exported}/diffusers/vae")
    assert png.read_recipe(tmp_path / "runs/small/pictures/000_0.png")["prompt"] == "1girl"


def stranger_print(name: str, folder: Path) -> str:
    return registry.constructor(name)("tiny", codec=folder).codec().fingerprint


def test_a_codec_that_happens_to_lie_there_is_not_taken_for_the_models_own(exported, tmp_path):
    name = exported.parent.name
    source, other = exported / "diffusion_only", exported / "diffusers" / "vae"
    config = compose([f"model={name}_tiny", f"model.codec={other}"])
    assert exported_family(config, str(source)).codec()  # the very one
    stranger = registry.constructor(name)("tiny", codec=other).codec()
    with torch.no_grad():
        next(stranger.net.parameters()).mul_(2)
    stranger.save(tmp_path / "codec")
    config["model"]["codec"] = str(tmp_path / "codec")
    with pytest.raises(ConfigError, match="not the one it was trained with"):
        exported_family(config, str(source))
    for place in (source, exported / "diffusers"):  # a typed one is taken, whatever lies there
        typed = exported_family(config, str(place), given=["model.codec"])
        assert typed.codec().fingerprint == stranger_print(name, tmp_path / "codec")


def test_a_text_setting_of_the_command_line_wins_over_the_recorded_one(exported, tmp_path):
    make = registry.constructor(exported.parent.name)
    name = make.text_settings[0]
    ours, other = {"empty_prompt": ("comfy", "masked"), "t5_pad_policy": ("comfy", "diffusers")}[name]
    record = read_json(exported / "record.json")
    write_json(exported / "record.json", record | {"text": {name: ours}})
    try:
        config = compose([f"model={make.name}_tiny", f"model.{name}={other}"])
        recorded, typed = (
            exported_family(config, str(exported), given=given).text_tower().fingerprint
            for given in ([], [f"model.{name}"])
        )
    finally:
        write_json(exported / "record.json", record)
    plain = registry.constructor(make.name)("tiny", weights=exported / "diffusers", **{name: other})
    assert typed == plain.text_tower().fingerprint != recorded

"""An export's record chooses what the command line leaves open; every word of the command line wins."""

from __future__ import annotations

from pathlib import Path

import pytest

from animeflow.app.compose import choices, compose, config_folder
from animeflow.app.source import Export, compose_sample
from animeflow.core.errors import ConfigError
from animeflow.core.files import write_json

MODELS = choices(config_folder(), "model")


def exported(folder: Path, model: str, **more: object) -> Path:
    """A folder that says of itself what an export of this model config says."""
    node = compose([f"model={model}"])["model"]
    record = {"family": node["family"], "flavour": node["flavour"], "name": "a run", "resolution": "96x160"}
    write_json(folder / "record.json", record | more)
    (folder / "diffusers" / "transformer").mkdir(parents=True)
    return folder


@pytest.mark.parametrize("below", ["", "diffusers", "diffusers/transformer"])
@pytest.mark.parametrize("model", MODELS)
def test_the_record_gives_model_name_and_size(model, below, tmp_path) -> None:
    config = compose_sample([f"sample.source={exported(tmp_path, model) / below}", "sample.cfg=2"])
    assert config["model"] == compose([f"model={model}", "name='a run'"])["model"]
    assert (config["name"], config["sample"]["height"], config["sample"]["width"]) == ("a run", 160, 96)
    assert config["sample"]["cfg"] == 2


def test_a_path_without_its_parents_is_found_too(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(exported(tmp_path, MODELS[0]) / "diffusers")
    assert compose_sample(["sample.source=transformer"])["name"] == "a run"


@pytest.mark.parametrize(
    "word", [f"model={compose()['model']['family']}_tiny", "name=other", "experiment=toonworld_smoke"]
)
def test_a_word_that_chooses_a_model_wins(word, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    other = next(
        model for model in MODELS if compose([f"model={model}"])["model"]["family"] != compose()["model"]["family"]
    )
    source = f"sample.source={exported(tmp_path / 'export', other)}"
    assert compose_sample([source])["model"]["family"] != compose()["model"]["family"]
    assert compose_sample([source, word]) == compose([source, word])


def test_a_given_side_wins_and_the_other_is_the_records(tmp_path) -> None:
    node = compose_sample([f"sample.source={exported(tmp_path, MODELS[0])}", "sample.height=64"])["sample"]
    assert (node["height"], node["width"]) == (64, 96)


def test_a_record_of_others_or_none_leaves_everything_as_it_was(tmp_path) -> None:
    word = f"sample.source={tmp_path}"
    assert compose_sample([word]) == compose([word])
    for record in ({"family": "nobody's", "resolution": "96x160"}, ["a list"]):
        write_json(tmp_path / "record.json", record)
        assert compose_sample([word]) == compose([word])


def test_a_run_in_the_way_does_not_change_what_an_export_is(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = f"sample.source={exported(tmp_path / 'export', MODELS[0])}"
    alone = compose_sample([source])
    write_json(Path(alone["run"]) / "config.json", alone | {"sample": alone["sample"] | {"steps": 99}})
    assert compose_sample([source]) == alone


def test_a_model_without_a_config_is_told(tmp_path) -> None:
    source = f"sample.source={exported(tmp_path, MODELS[0], flavour='huge')}"
    with pytest.raises(ConfigError, match=r"huge.*no such model config[\s\S]*model=: "):
        compose_sample([source])
    assert compose_sample([source, f"model={MODELS[0]}"])["model"]["flavour"] != "huge"


def test_only_the_text_settings_that_are_recorded_are_taken(tmp_path) -> None:
    export = Export.at(exported(tmp_path, MODELS[0], text={"length": 7, "variants": 4, "empty": None}))
    assert export is not None
    assert export.text(["length", "empty", "other"]) == {"length": 7}


def test_the_identity_of_an_export_holds_no_path_of_this_machine(tmp_path) -> None:
    facts = {"images_seen": 640, "ema": {"exported": True}}
    export = Export.at(exported(tmp_path, MODELS[0], **facts))
    assert export is not None
    told = export.identity(tmp_path / "single_file" / "a.safetensors")
    assert told == {"run": "a run", "images_seen": 640, "kind": "ema", "source": "single_file/a.safetensors"}

"""Config: every file composes, the constructor is the schema, a slip gets a suggestion."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from animeflow.app.build import build, choose
from animeflow.app.compose import choices, compose, config_folder
from animeflow.core.errors import ConfigError


@dataclass(frozen=True)
class Thing:
    size: int
    betas: tuple[float, float] = (0.9, 0.99)
    folder: Path | None = None


def test_lists_become_tuples_and_strings_paths() -> None:
    thing = build(Thing, {"size": 2, "betas": [0.1, 0.2], "folder": "a/b"}, where="thing")
    assert thing == Thing(2, (0.1, 0.2), Path("a/b"))


@pytest.mark.parametrize(
    "node, says",
    [({"size": 1, "bates": [1, 2]}, "did you mean 'betas'"), ({}, "'size' is missing")],
)
def test_a_wrong_key_is_an_error_with_a_suggestion(node, says) -> None:
    with pytest.raises(ConfigError, match=says):
        build(Thing, node, where="thing")


def test_an_unknown_kind_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'thing'"):
        choose({"thing": Thing}, {"kind": "thin", "size": 1}, where="x")


@pytest.mark.parametrize("experiment", choices(config_folder(), "experiment"))
def test_every_experiment_composes(experiment) -> None:
    overrides = [f"experiment={experiment}"]
    if experiment.startswith("pictures"):
        overrides += ["catalogue.root=pictures"]
    config = compose(overrides)
    assert config["name"]


@pytest.mark.parametrize(
    "override, says",
    [
        ("optim.lrr=1", "did you mean 'optim.lr'"),
        ("optimm.lr=1", "did you mean 'optim"),
        ("experiment=toonworld_tinny", "did you mean 'toonworld_tiny'"),
        ("train.images", "not of the form KEY=VALUE"),
    ],
)
def test_a_slip_on_the_command_line_gets_a_suggestion(override, says) -> None:
    with pytest.raises(ConfigError, match=says):
        compose([override])


@pytest.mark.parametrize(
    "override, says",
    [
        ("+evaluate.promts=3", "did you mean 'evaluate.prompts'"),
        ("+train.validate.evry=3", "did you mean 'train.validate"),
        ("+nmae=x", "did you mean 'name'"),
        ("+data.loader.microbatch=2", "did you mean 'data.loader.micro_batch'"),
    ],
)
def test_a_forced_unknown_key_is_an_error_too(override, says) -> None:
    with pytest.raises(ConfigError, match=says):
        compose([override])


def test_a_slip_inside_an_experiment_file_is_an_error(tmp_path, monkeypatch) -> None:
    import shutil

    from animeflow.app import compose as module

    folder = tmp_path / "configs"
    shutil.copytree(config_folder(), folder)
    (folder / "experiment" / "mine.yaml").write_text("# @package _global_\nname: mine\ntrain:\n  imges: 10\n")
    monkeypatch.setattr(module, "config_folder", lambda: folder)
    with pytest.raises(ConfigError, match=r"did you mean 'train\.images'"):
        module.compose(["experiment=mine"])


@pytest.mark.parametrize(
    "override, says",
    [
        ("train.wandb=yes", "train.wandb"),
        ("export.dtype=fp8", "did you mean 'fp"),
        ("sample.solver=eulr", "did you mean 'euler'"),
        ("data.loader.texts=lve", "did you mean 'live'"),
        ("data.loader.batch=0", "data.loader.batch"),
        ("data.loader.encoder_dropout.t5=2", "between 0 and 1"),
        ("+data.shard.wrkers=2", "did you mean 'workers'"),
        ("+catalogue.limits.max_pixel=2", "did you mean 'max_pixels'"),
    ],
)
def test_an_impossible_value_is_found_before_anything_runs(override, says) -> None:
    from animeflow.app.check import check_values

    with pytest.raises(ConfigError, match=says):
        check_values(compose([override]))


def test_a_run_is_read_with_the_settings_it_was_trained_with(tmp_path) -> None:
    from animeflow.app.compose import compose_run
    from animeflow.core.files import write_json

    run = f"run={tmp_path}/run"
    trained = compose(["experiment=toonworld_tiny", "optim.lr=0.123", run])
    write_json(tmp_path / "run" / "config.json", trained)
    again = compose_run([run, "sample.cfg=7", "export.dtype=fp32"])
    assert again["model"] == trained["model"]
    assert again["optim"]["lr"] == 0.123
    assert (again["sample"]["cfg"], again["export"]["dtype"]) == (7, "fp32")
    assert again["sample"]["steps"] == trained["sample"]["steps"]

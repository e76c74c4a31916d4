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


def test_what_the_code_gives_is_no_setting() -> None:
    """`+data.shard.engine=ray` would be taken, and nothing come of it."""
    with pytest.raises(ConfigError, match="unknown setting 'folder'"):
        build(Thing, {"size": 1, "folder": "a"}, where="thing", folder=Path("b"))


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


def other_model() -> str:
    """A model config of another family than the one that an empty command line takes."""
    first = compose()["model"]["family"]
    return next(m for m in choices(config_folder(), "model") if compose([f"model={m}"])["model"]["family"] != first)


def own_setting(model: str) -> str:
    """A setting of this model that the default one does not know."""
    return sorted(compose([f"model={model}"])["model"].keys() - compose()["model"].keys())[0]


@pytest.fixture
def run_of(tmp_path):
    """Leave what a training leaves of its settings in the folder of a run."""
    from animeflow.core.files import write_json

    def leave(*words: str, told: bool = True) -> str:
        run = f"run={tmp_path}/run"
        write_json(tmp_path / "run" / "config.json", compose([*words, run]))
        if told:
            write_json(tmp_path / "run" / "command.json", [*words, run])
        return run

    return leave


def test_the_settings_of_a_runs_own_model_can_be_set(run_of) -> None:
    from animeflow.app.compose import compose_run

    model = other_model()
    run = run_of(f"model={model}", "name=mine", "optim.lr=0.123", "optim.betas=[0.5,0.6]")
    key = own_setting(model)
    again = compose_run([run, f"model.{key}=null", "optim.lr=0.5"])
    assert again["model"] == compose([f"model={model}", "name=mine"])["model"] | {key: None}
    assert (again["name"], again["optim"]["lr"], again["optim"]["betas"]) == ("mine", 0.5, [0.5, 0.6])
    with pytest.raises(ConfigError, match=f"did you mean 'model.{key}'"):
        compose_run([run, f"model.{key}x=1"])


def test_a_group_chosen_anew_takes_its_settings_with_it(run_of) -> None:
    from animeflow.app.compose import compose_run

    model = other_model()
    family = compose([f"model={model}"])["model"]["family"]
    run = run_of(f"experiment={family}_toonworld_smoke", f"model.{own_setting(model)}=null", "name=mine")
    first = f"{compose()['model']['family']}_tiny"
    assert compose_run([run, f"model={first}"])["model"].keys() == compose([f"model={first}"])["model"].keys()


def test_a_run_that_kept_no_words_is_read_as_before(run_of) -> None:
    from animeflow.app.compose import compose_run

    model = other_model()
    run = run_of(f"model={model}", told=False)
    assert compose_run([run, "sample.cfg=7"])["model"] == compose([f"model={model}"])["model"]
    with pytest.raises(ConfigError, match="unknown setting"):
        compose_run([run, f"model.{own_setting(model)}=null"])


def test_a_run_whose_words_configs_no_longer_know_is_read_by_what_it_saved(run_of, tmp_path) -> None:
    from animeflow.app.compose import compose_run
    from animeflow.core.files import write_json

    run = run_of("optim.lr=0.123")
    write_json(tmp_path / "run" / "command.json", ["experiment=long_gone", "optim.lr=0.123", run])
    assert compose_run([run, "sample.cfg=7"])["optim"]["lr"] == 0.123
    with pytest.raises(ConfigError, match=r"did you mean 'sample\.cfg'"):
        compose_run([run, "sample.cgf=7"])


def test_a_setting_that_is_taken_away_is_gone(run_of) -> None:
    from animeflow.app.compose import compose_run

    run = run_of("optim.lr=0.123")
    assert "eta" in compose_run([run])["sample"]
    assert "eta" not in compose_run([run, "~sample.eta=1.0"])["sample"]


def test_every_kind_of_source_has_the_options_that_are_for_all() -> None:
    yaml = pytest.importorskip("yaml")
    shared = {"source", "val_share", "workers", "blocklist", "licence", "snapshot", "limits"}
    for file in sorted((config_folder() / "catalogue").glob("*.yaml")):
        assert shared <= yaml.safe_load(file.read_text(encoding="utf-8")).keys(), file.name

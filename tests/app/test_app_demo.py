"""Which experiment the demo runs: one per family, found by name."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from animeflow.app.cli import main
from animeflow.app.compose import choices, compose, config_folder
from animeflow.app.verbs.demo import experiment
from animeflow.core.errors import ConfigError
from animeflow.model import registry


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("family", registry.names())
def test_every_family_has_a_demo_over_the_same_shards(family, fast) -> None:
    config, first = (compose([f"experiment={experiment(name, fast=fast)}"]) for name in (family, None))
    assert config["model"]["family"] == family
    assert config["set"] == first["set"]
    for node in ("toonworld", "catalogue"):
        assert config[node] == first[node]
    for node in ("bucket", "shard", "codec"):
        assert config["data"][node] == first["data"][node]
    assert (config["run"] == first["run"]) == (config["model"]["family"] == first["model"]["family"])


def test_without_a_family_it_is_the_first_demo() -> None:
    assert experiment(None, fast=False) in choices(config_folder(), "experiment")
    assert compose([f"experiment={experiment(None, fast=True)}"])["train"]["images"] < 1000


def test_an_unknown_family_is_told_with_the_known_ones() -> None:
    done = CliRunner().invoke(main, ["demo", "--family", f"{registry.names()[0]}x"])
    assert done.exit_code == 2
    assert f"did you mean '{registry.names()[0]}'" in done.output
    assert f"choose one of: {', '.join(registry.names())}" in done.output
    assert "where: --family" in done.output


def test_a_family_without_an_experiment_is_told_which_file_it_lacks(monkeypatch) -> None:
    monkeypatch.setattr(registry, "cell", lambda name: 8)
    with pytest.raises(ConfigError, match=r"configs/experiment/third_toonworld_smoke\.yaml"):
        experiment("third", fast=True)


def test_help_names_the_families() -> None:
    assert ", ".join(registry.names()) in CliRunner().invoke(main, ["demo", "--help"]).output

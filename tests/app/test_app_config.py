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

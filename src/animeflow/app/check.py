"""What a config may say: every key known, every value possible, before anything runs. Knows signatures and names; runs nothing."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ..core.errors import ConfigError, did_you_mean
from .build import build
from .exposure import asked
from .learner import lora_settings
from .wiring import prior_weight, train_settings

# Nodes that a constructor reads: it is their schema, and they may hold options that no file of configs/ names.
CONSTRUCTED = (
    *("toonworld", "catalogue.limits", "catalogue.source", "data.bucket", "data.shard", "data.cache", "data.codec"),
    *("text", "model", "optim", "recipe.density", "recipe.shift", "recipe.weight", "evaluate.oracle_budget"),
    *("data.loader.encoder_dropout", "data.loader.repeats", "data.remote", "learn", "curate.provenance"),
    "data.loader.exposure",
)

KINDS = ("ema", "trained")  # of weights: the average that a run uses, and the trained ones


def check_keys(config: Mapping[str, Any], folder: Path) -> None:
    """Every key of the nodes that are read by name is one that some file of `folder` has. Raises ConfigError, with a did-you-mean.
    Hydra catches unknown words of the command line; this catches them in experiment files and behind a `+`."""
    known = _known_keys(folder)
    for key in _keys(config):
        if key not in known and not key.startswith(CONSTRUCTED):
            raise ConfigError(
                f"unknown setting '{key}'{did_you_mean(key, known)}", where="config", do="see the files in configs/"
            )


def _known_keys(folder: Path) -> set[str]:
    known = set(_keys_of_file(folder / "animeflow.yaml"))
    for group in (path for path in folder.iterdir() if path.is_dir() and path.name not in ("experiment", "launcher")):
        known.add(group.name)
        for path in group.glob("*.yaml"):
            known |= {f"{group.name}.{key}" for key in _keys_of_file(path)}
    return known


def _keys_of_file(path: Path) -> frozenset[str]:
    facts = path.stat()
    return _read_keys(path, facts.st_mtime_ns, facts.st_size)


@functools.lru_cache(maxsize=1024)
def _read_keys(path: Path, *version: int) -> frozenset[str]:
    """Kept, as one command composes several times and reading all files takes as long as Hydra does."""
    from omegaconf import OmegaConf

    node = OmegaConf.to_container(OmegaConf.load(path))
    named = {str(key): value for key, value in node.items() if key != "defaults"} if isinstance(node, dict) else {}
    return frozenset(_keys(named))


def _keys(node: Mapping[str, Any], prefix: str = "") -> Iterable[str]:
    for key, value in node.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _keys(value, f"{prefix}{key}.")


def check_values(config: Mapping[str, Any]) -> None:
    """Values that would otherwise be stumbled over hours later. Raises ConfigError."""
    from ..data.cache import build_cache
    from ..data.masks import MODES
    from ..data.shard import write_shards
    from ..evaluate.training import Budget
    from ..flow.schedule import SCHEDULES
    from ..flow.solver import SOLVERS
    from ..image.picture import Limits
    from ..model.tensor_file import DTYPES
    from ..toonworld.dataset import write_dataset

    load, train, export = config["data"]["loader"], config["train"], config["export"]
    drawn = dict(config["toonworld"])
    _at_least(drawn.pop("planted", 0), 0, "toonworld.planted")
    _keys_of(write_dataset, drawn, "toonworld")
    _keys_of(write_shards, config["data"]["shard"], "data.shard")
    _keys_of(build_cache, config["data"]["cache"], "data.cache")
    build(Limits, config["catalogue"]["limits"], where="catalogue.limits")
    build(Budget, config["evaluate"]["oracle_budget"], where="evaluate.oracle_budget")
    train_settings(config)
    lora_settings(config)
    _check_recipe(config)
    _one_of(config["data"]["shard"].get("masks", "off"), MODES, "data.shard.masks")
    for key in ("batch", "micro_batch", "chunks_per_step", "threads"):
        _at_least(load.get(key, 1), 1, f"data.loader.{key}")
    _one_of(load["texts"], ("cached", "live"), "data.loader.texts")
    if not isinstance(load.get("group_lengths", True), bool):
        raise ConfigError(f"{load['group_lengths']} is not true or false", where="data.loader.group_lengths")
    _one_of(load.get("broken", "stop"), ("stop", "skip"), "data.loader.broken")
    asked(config)
    _one_of(train["wandb"], ("off", "offline", "online"), "train.wandb")
    _one_of(export["dtype"], DTYPES, "export.dtype")
    require_weights(export["weights"], where="export.weights")
    require_weights(config["sample"]["weights"], where="sample.weights")
    _one_of(train["panel"], ("auto", "lines", "off"), "train.panel")
    for key, known in (("solver", SOLVERS), ("schedule", SCHEDULES)):  # null is the family's own
        if config["sample"][key] is not None:
            _one_of(config["sample"][key], known, f"sample.{key}")
    for key in ("caption_dropout", *(f"encoder_dropout.{name}" for name in load["encoder_dropout"])):
        value = load["encoder_dropout"][key.split(".")[1]] if "." in key else load[key]
        if not 0 <= value <= 1:
            raise ConfigError(f"{value} is not a share between 0 and 1", where=f"data.loader.{key}")


def _check_recipe(config: Mapping[str, Any]) -> None:
    node = config["recipe"]
    background, weight = (node.get("mask") or {}).get("background", 0), (node.get("prior") or {}).get("weight", 0)
    for where, value, most in (("mask.background", background, 1), ("prior.weight", weight, float("inf"))):
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= most:
            wanted = "a share between 0 and 1" if most == 1 else "a number of 0 or above"
            raise ConfigError(f"{value!r} is not {wanted}", where=f"recipe.{where}")
    prior_weight(config)


def require_weights(which: str, *, where: str) -> None:
    """Raises ConfigError for a word that is neither of `KINDS` nor a file."""
    if which not in KINDS and not Path(which).is_file():
        raise ConfigError(
            f"'{which}' is no kind of weights and no file{did_you_mean(which, KINDS)}",
            where=where,
            do="use ema, trained, or a file that 'animeflow ema' made",
        )


def require_rates(parts: Iterable[Any], rates: Mapping[str, float]) -> None:
    """Raises ConfigError for a part of the family that would learn at the common rate only because nobody said another one."""
    for part in parts:
        if part.trainable and part.own_rate is not None and part.own_rate not in rates:
            raise ConfigError(
                f"the {part.name} learns, and its learning rate is not set",
                where="optim.rates",
                why="without a word it would learn at optim.lr, which is often too much for it",
                do=f"set optim.rates.{part.own_rate}=..., or freeze it",
            )


def _keys_of(make: Callable[..., Any], node: Mapping[str, Any], where: str) -> None:
    known = list(inspect.signature(make).parameters)
    for key in node:
        if key not in known:
            raise ConfigError(f"unknown setting '{key}'{did_you_mean(key, known)}", where=where)


def _one_of(value: Any, known: Iterable[str], where: str) -> None:
    known = list(known)
    if value not in known:
        raise ConfigError(
            f"unknown value '{value}'{did_you_mean(str(value), known)}",
            where=where,
            do=f"choose one of: {', '.join(known)}",
        )


def _at_least(value: Any, least: int, where: str) -> None:
    if not isinstance(value, int) or value < least:
        raise ConfigError(f"{value} is not a whole number of at least {least}", where=where)

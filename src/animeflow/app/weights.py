"""The weights of a run or of an export, in a family's backbone. Knows checkpoints and folders; knows no layout's names."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ..core.errors import ConfigError, DataError
from ..evaluate.run_folder import flat
from ..model import registry
from .averaged import read_average
from .check import KINDS, require_weights
from .learner import base_identity, learner
from .source import Export, require_source
from .wiring import Workspace, family

FREE_TO_CHANGE = (
    "learn.base_dtype",
    "learn.start",
    "learn.dropout",
)  # how the base is kept, and what is known by its hash


def _averages(path: Path, wanted: Collection[str]) -> tuple[dict[str, Any], int]:
    """The tensors of a file of averages, and the images they have seen. Raises DataError when it is none of this run's."""
    tensors, made = read_average(path)
    if set(tensors) != set(wanted):
        names = sorted(set(tensors) ^ set(wanted))
        raise DataError(
            f"its tensors are not those that this run trains: {len(names)} differ, {names[0]} first", where=str(path),
            do="use the file that 'animeflow ema' made of this very run",
        )  # fmt: skip
    return tensors, int(made["images_seen"])


def newest_checkpoint(config: Mapping[str, Any]) -> Path:
    """The run's newest checkpoint that is whole. Raises DataError when there is none."""
    from ..train import checkpoint

    root = Workspace.of(config).run / "checkpoints"
    newest = checkpoint.newest(root)
    if newest is None:
        raise DataError(
            "this run has no checkpoint", where=str(root), do="run 'animeflow train' with the same name first"
        )
    return newest


def trained_family(config: Mapping[str, Any], *, which: str = "ema") -> tuple[Any, int]:
    """The family with the weights of the run's newest checkpoint, and the images they have seen. `which` is `ema` (the average
    that the run uses), `trained`, or a file that `animeflow ema` made of the same run."""
    from ..model.state import check_state
    from ..train import checkpoint

    require_weights(which, where="weights")
    newest = newest_checkpoint(config)
    state = checkpoint.load_state(newest)
    fam = family(config)
    _require_same_parts(fam, state["identity"])
    tensors, _ = checkpoint.load(newest, ["learner", state["average"]])
    weights, seen = dict(tensors["learner"]), int(state["progress"]["images_seen"])
    if which == "ema":
        weights |= tensors[state["average"]]
    elif which not in KINDS:
        averages, seen = _averages(Path(which), tensors[state["average"]])
        weights |= averages
    _require_same_additions(config, state["identity"])
    learns = learner(config, fam)
    expected = learns.module.state_dict()
    if learns.on_base:
        _require_same_base(config, state["identity"])
        expected = {name: p for name, p in learns.module.named_parameters() if p.requires_grad}
    check_state(expected, weights, where=str(Workspace.of(config).run))
    learns.module.load_state_dict(weights, strict=not learns.on_base)
    return fam, seen


def _require_same_additions(config: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
    """The scale of additions is no tensor: another `learn.alpha` would export another LoRA than was trained."""
    node = flat(dict(config)) if identity.get("learn.kind") == "lora" else {}
    ours = {key: value for key, value in node.items() if key.startswith("learn.") and key not in FREE_TO_CHANGE}
    saved = {key: value for key, value in identity.items() if key.startswith("learn.") and key not in FREE_TO_CHANGE}
    different = (
        sorted(key for key in {*ours, *saved} if (ours.get(key) or None) != (saved.get(key) or None)) if node else []
    )
    if different:
        raise ConfigError(
            f"this run's additions were trained with {different[0]}={saved.get(different[0])}, not {ours.get(different[0])}",
            where=different[0],
            do="leave it out; 'animeflow lora merge FILE=0.5' scales a finished file, 'lora resize' gives it another rank",
        )


def _require_same_base(config: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
    """Additions belong to the very weights that they were trained on."""
    if identity.get("base") != base_identity(config):
        raise ConfigError(
            "the base is not the one that this LoRA was trained on",
            where="model.weights",
            why=f"the files at {config['model'].get('weights')} have changed, or are others",
            do="restore them, or give model.weights=... of the base; sample.loras=[FILE] adds a LoRA to any base",
        )


def _require_same_parts(fam: Any, identity: Mapping[str, Any]) -> None:
    """A backbone speaks the language of the codec and the text encoders it was trained with, and of no other."""
    for name, part in (("codec", fam.codec()), ("text tower", fam.text_tower())):
        if identity.get(name) not in (None, part.fingerprint):
            raise ConfigError(
                f"the {name} is not the one this run was trained with",
                where="model",
                why="its pictures would be noise",
                do="leave out the model settings of this command, or restore the folder of the codec or encoders",
            )


def exported_family(config: Mapping[str, Any], source: str, *, given: Collection[str] = ()) -> Any:
    """The family with weights read from an export: the parts that lie with them are read too, others are the config's.

    Args:
        given: settings that the command line names, such as `model.codec`: they win over what the export says and holds.
    """
    path, node, export = require_source(source), config["model"], Export.at(Path(source))
    make, said = registry.constructor(node["family"]), {key.removeprefix("model.") for key in given}
    lying = {key: value for key, value in make.weights_at(path).items() if key == "weights" or key not in said}
    text = {} if export is None else export.text([name for name in make.text_settings if name not in said])
    elsewhere = [name for name in ("codec", "text") if name not in lying and name not in said]
    for name in elsewhere:
        if node.get(name) is not None and not Path(node[name]).exists():
            raise _no_part(name, path, f"{node[name]} is not there either")
    fam = family({**config, "model": {**node, **text, **lying}})
    parts = {} if export is None or said.intersection(make.text_settings) else export.record.get("parts") or {}
    for name in elsewhere:
        part = fam.codec() if name == "codec" else fam.text_tower()
        if parts.get(name) not in (None, part.fingerprint):
            here = f"the one at {node[name]}" if node.get(name) else "the small one made here"
            raise _no_part(name, path, f"{here} is not the one it was trained with")
    return fam


def exported_weights(config: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Which weights lie at `source`, for the recipe of a picture: of which run and state, and no path of this machine."""
    path = require_source(source)
    weights = Path(registry.constructor(config["model"]["family"]).weights_at(path)["weights"])
    export = Export.at(path)
    return {"source": weights.absolute().name} if export is None else export.identity(weights)


def _no_part(name: str, path: Path, why: str) -> ConfigError:
    """A part that pictures need lies neither with the weights nor where the config says."""
    what = {"codec": "codec (the autoencoder)", "text": "text encoder with its tokenizers"}[name]
    return ConfigError(
        f"no {what} lies with these weights",
        where=f"sample.source={path}",
        why=why,
        do=f"give it with model.{name}=..., or sample a layout that brings it, such as a diffusers folder",
    )

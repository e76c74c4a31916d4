"""The weights of a run or of an export, in a family's backbone. Knows checkpoints and folders; knows no layout's names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.errors import ConfigError, DataError
from ..core.files import read_json
from .wiring import Workspace, family


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
    """The family with the weights of the run's newest checkpoint, and the images they have seen. `which` is `ema` (the average)
    or `trained`."""
    from ..model.state import check_state
    from ..train import checkpoint

    if which not in ("ema", "trained"):
        raise ConfigError(f"unknown weights '{which}'", do="choose ema or trained")
    tensors, state = checkpoint.load(newest_checkpoint(config))
    fam = family(config)
    _require_same_parts(fam, state["identity"])
    weights = tensors["learner"] | (tensors["ema"] if which == "ema" else {})
    check_state(fam.backbone().state_dict(), weights, where=str(Workspace.of(config).run))
    fam.backbone().load_state_dict(weights)
    return fam, int(state["progress"]["images_seen"])


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


def exported_family(config: Mapping[str, Any], source: str) -> Any:
    """The family with weights read from an export: the parts that lie with them are read too, others are the config's."""
    from ..model import registry

    path, node = Path(source), config["model"]
    if not path.exists():
        raise ConfigError(f"{path} does not exist", where="sample.source", do="give 'run', or the path of an export")
    make = registry.constructor(node["family"])
    return family({**config, "model": {**node, **_recorded_text(path, make.text_settings), **make.weights_at(path)}})


def _recorded_text(path: Path, names: Sequence[str]) -> dict[str, Any]:
    """The text settings that an export of ours was trained with, from the record in it or above; nothing for other folders."""
    for folder in [path, *path.parents][:4]:
        if (folder / "record.json").is_file():
            told = read_json(folder / "record.json").get("text") or {}
            return {key: told[key] for key in names if told.get(key) is not None}
    return {}

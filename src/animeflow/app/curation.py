"""From `curate` of a config to the query that it is, and to what it chooses. Knows where queries lie; knows no rule."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core.errors import ConfigError, did_you_mean
from ..core.files import read_json
from .build import build
from .compose import choices, config_folder
from .wiring import Config, Workspace


def curation(config: Config) -> Any:
    """The Query. Raises ConfigError for what is unknown, impossible, or decides by a score that nobody approved."""
    from ..curate.query import Query

    return Query.from_config(config["curate"], where="curate", load=lambda name: _load(name, ()))


def selection(config: Config) -> Any:
    """What the query takes out of the set's catalogue; no row of it is held in memory."""
    from ..curate.selection import select

    return select(Workspace.of(config).catalogue, curation(config))


def requirements(config: Config) -> Any:
    """What must be known of every picture. Raises ConfigError for what cannot be asked."""
    from ..curate.statement import Requirements

    return build(Requirements, config["curate"].get("require"), where="curate.require")


def refused(config: Config) -> dict[str, int]:
    """Reason -> files that were refused when they were catalogued: the first filter, that no query changes."""
    manifest = Workspace.of(config).catalogue / "manifest.json"
    return dict(read_json(manifest).get("rejected", {})) if manifest.exists() else {}


def _load(name: str, within: tuple[Path, ...]) -> Mapping[str, Any]:
    """A query by its name in `configs/curate`, or by its file, laid over the ones that its `defaults` name."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    folder = config_folder()
    file = Path(name) if name.endswith((".yaml", ".yml")) else folder / "curate" / f"{name}.yaml"
    if not file.is_file():
        known = choices(folder, "curate")
        raise ConfigError(
            f"there is no query '{name}'{did_you_mean(name, known)}", where="curate.include",
            do=f"give a FILE.yaml, or one of: {', '.join(known)}",
        )  # fmt: skip
    if file.resolve() in within:
        raise ConfigError(f"{file} is laid over itself", where="curate.include", do="take it out of its own defaults")
    try:
        node = OmegaConf.to_container(OmegaConf.load(file), resolve=True)
    except (OmegaConfBaseException, YAMLError, OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {str(error).splitlines()[0]}", where="curate.include") from error
    if not isinstance(node, dict):
        raise ConfigError(f"{file} is no query", where="curate.include", do="write a map with a name and rules")
    told = {str(key): value for key, value in node.items() if key != "defaults"}
    for below in node.get("defaults", []):
        if below != "_self_":
            told = _over(dict(_load(str(below), (*within, file.resolve()))), told)
    return told


def _over(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Maps are joined key by key; of all else what is above counts."""
    for key, value in above.items():
        known = below.get(key)
        below[key] = _over(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return below

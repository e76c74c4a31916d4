"""From words on a command line to one resolved config. The door to Hydra; knows no object that a config describes."""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..core.errors import ConfigError, did_you_mean
from ..core.files import read_json
from ..evaluate.run_folder import flat
from ..learn.settings import UNSUPPORTED
from .check import check_keys
from .learner import unsupported

# Maps whose keys only the chosen family knows, or a person chooses, so that no file of configs/ names them: any key may be set.
OPEN = (
    *("data.loader.encoder_dropout", "data.loader.repeats", "data.remote.options", "optim.rates"),
    "data.loader.exposure",
    *("text.concepts", "catalogue.source.concepts", "text.languages", "text.periods", "text.extra"),
    *("text.section_dropout", "text.tag_dropout_of", "text.quality_words", "text.quality_scores"),
)

__all__ = ["choices", "compose", "compose_run", "config_folder", "flat", "flat_keys"]


def config_folder() -> Path:
    """`configs/` beside the package in an installed wheel, at the top of the checkout in a development install."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "configs", package.parents[1] / "configs"):
        if (folder / "animeflow.yaml").is_file():
            return folder
    raise ConfigError("the configs folder is missing", where=str(package), do="reinstall animeflow")


def compose(overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The resolved config as plain dicts and lists. Raises ConfigError with a did-you-mean for an unknown key or choice."""
    for override in overrides:
        if "=" not in override:
            raise ConfigError(f"'{override}' is not of the form KEY=VALUE", do="for example: optim.lr=2e-4")
    folder = config_folder()
    facts = ((path, path.stat()) for path in sorted(folder.rglob("*.yaml")))
    version = tuple((str(path), stat.st_mtime_ns, stat.st_size) for path, stat in facts)
    return copy.deepcopy(_composed(folder, version, tuple(overrides)))


@functools.lru_cache(maxsize=256)
def _composed(folder: Path, version: tuple[tuple[str, int, int], ...], overrides: tuple[str, ...]) -> dict[str, Any]:
    """The words and the files say all. Kept, as one command asks again and again, and Hydra takes a sixth of a second."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        with initialize_config_dir(str(folder), version_base="1.3"):
            config = hydra_compose("animeflow", overrides=[_opened(override) for override in overrides])
            resolved = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise _explained(error, overrides, folder) from error
    assert isinstance(resolved, dict)
    composed = {str(key): value for key, value in resolved.items()}
    check_keys(composed, folder)
    return composed


def compose_run(overrides: Sequence[str]) -> dict[str, Any]:
    """The config of a run that exists, as it was trained, with only the words of this command line laid over it.

    What samples, exports or reports a run needs the settings of *that* run; composing them anew from `name=` alone would
    give the defaults. Where there is no such run, it is `compose`.
    """
    placing = [word for word in overrides if key_of(word) in ("experiment", "name", "run", "seed")]
    trained = _words_of_run(placing, overrides)
    try:
        config = compose([*trained, *overrides])
    except ConfigError:
        if not trained or _composes([*trained, *placing]):
            raise
        config = compose(overrides)  # configs/ no longer has all that the run was trained with
    saved_file = Path(config["run"]) / "config.json"
    if not saved_file.is_file():
        return config
    merged = copy.deepcopy(config | read_json(saved_file))
    for word in overrides:
        key = key_of(word)
        if key in ("experiment", "name", "run"):
            continue
        *parents, last = key.split(".")
        target, source = merged, config
        for parent in parents:
            target, source = target.setdefault(parent, {}), source[parent]
        if last in source:
            target[last] = copy.deepcopy(source[last])
        else:  # `~` took it away
            target.pop(last, None)
    return merged | {"run": config["run"]}


def key_of(word: str) -> str:
    """The setting or group that a word of a command line names, with dots."""
    return word.lstrip("+~").partition("=")[0].replace("/", ".")


def _words_of_run(placing: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """The words that the run was trained with, for the groups they choose: its settings are known by the names of *its* model. Left
    out is what this command line says anew. Nothing for a run that kept no words."""
    try:
        found = compose(placing)
    except ConfigError:  # told better with all the words
        return []
    saved_file = Path(found["run"]) / "command.json"
    if not saved_file.is_file():
        return []
    said = {key_of(word) for word in overrides}
    words = [] if "name" in said else ["name='{}'".format(found["name"].replace("\\", "\\\\").replace("'", "\\'"))]
    for word in read_json(saved_file):
        key = key_of(word)
        if key not in ("name", "run") and not any(key == new or key.startswith(f"{new}.") for new in said):
            words.append(word)
    return words


def _composes(words: Sequence[str]) -> bool:
    try:
        compose(words)
    except ConfigError:
        return False
    return True


def _opened(override: str) -> str:
    """Hydra adds a key to a map only behind `++`; in the maps of `OPEN` a key is a value like any other."""
    key, _, value = override.partition("=")
    if key == "sample.loras":
        return f"{key}={_files(value)}"
    return f"++{override}" if key in OPEN or key.startswith(tuple(f"{name}." for name in OPEN)) else override


def _files(value: str) -> str:
    """`FILE=0.8`, or a list of such, in Hydra's quotes, which nobody types: a path may hold what is grammar to Hydra."""
    inner = value.strip().removeprefix("[").removesuffix("]")
    names = [name.strip() for name in inner.split(",") if name.strip()]
    quoted = (
        name if name[0] in "'\"" else "'{}'".format(name.replace("\\", "\\\\").replace("'", "\\'")) for name in names
    )
    return f"[{','.join(quoted)}]"


def choices(folder: Path, group: str) -> list[str]:
    """Names that can stand behind `group=`."""
    return sorted(path.stem for path in (folder / group).glob("*.yaml"))


def _explained(error: Exception, overrides: Sequence[str], folder: Path) -> ConfigError:
    """Hydra's messages in our form, with the nearest known word."""
    text = str(error)
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        if key == "learn" and value in UNSUPPORTED:
            return unsupported(value)
        if (folder / key).is_dir() and value not in choices(folder, key):
            known = choices(folder, key)
            own = (
                f"; a file of yours is given as 'curate.include=[{value}]'" if key == "curate" and "." in value else ""
            )
            return ConfigError(
                f"unknown {key} '{value}'{did_you_mean(value, known)}", do=f"choose one of: {', '.join(known)}{own}"
            )
        if (
            f"'{key}'" in text
            or f"Could not override '{key}'" in text
            or re.search(rf"Key '{re.escape(key.split('.')[-1])}'", text)
        ):
            known = list(_keys(folder, overrides))
            if key in known:
                return ConfigError(text.strip().splitlines()[0], where=key, do="set its keys one by one")
            return ConfigError(
                f"unknown setting '{key}'{did_you_mean(key, known)}", do="see the files in configs/ or animeflow plan"
            )
    if missing := re.search(r"[Mm]issing mandatory value: ([\w.]+)", text):
        key = missing[1]
        return ConfigError(f"{key} has no value, and there is no default", where=key, do=f"give it: {key}=...")
    return ConfigError(text.strip().splitlines()[0], where="config")


def _keys(folder: Path, overrides: Sequence[str]) -> Iterator[str]:
    """Every dotted key of the config with the groups that these words choose, for suggestions."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from omegaconf import OmegaConf

    words = [word.partition("=") for word in overrides]
    groups = [f"{key}={value}" for key, _, value in words if value in choices(folder, key)]
    with initialize_config_dir(str(folder), version_base="1.3"):
        config = OmegaConf.to_container(hydra_compose("animeflow", overrides=groups), resolve=False)
    assert isinstance(config, dict)
    yield from flat_keys(config)
    yield from (path.name for path in folder.iterdir() if path.is_dir())


def flat_keys(node: dict, prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from flat_keys(value, f"{prefix}{key}.")

"""TOML of kohya's scripts as flat keys and data sets, each value with where it stands. Knows files; knows no meaning."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...core.errors import ConfigError, DataError

PLACE = re.compile(r"\(at (?:line (\d+), column (\d+)|end of document)\)")


@dataclass(frozen=True)
class Told:
    """A value and where it stands: `config.toml [network]`."""

    value: Any
    where: str


@dataclass
class Files:
    """What several files say together.

    Attributes:
        keys: of the run, sections undone.
        general: what holds for every data set.
        datasets: each with its own keys and, under `subsets`, its folders.
        folder: of the first file of data, which its relative paths are also looked for in.
    """

    keys: dict[str, Told] = field(default_factory=dict)
    general: dict[str, Any] = field(default_factory=dict)
    datasets: list[dict[str, Any]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)


def read(paths: Iterable[Path]) -> Files:
    """Read and lay over one another, in this order; where none has data sets, the file that `dataset_config` names comes last.

    Raises:
        DataError: a file is missing or no TOML; line and column are told. ConfigError: it holds nothing of kohya's.
    """
    files, given = Files(), list(paths)
    for path in given:
        _add(files, path, _parsed(path))
    if not files.datasets and (path_of_data := _named(files, given)) is not None:
        _add(files, path_of_data, _parsed(path_of_data))
    return files


def _named(files: Files, paths: list[Path]) -> Path | None:
    """The file that `dataset_config` names, from where the command runs, as kohya's scripts look, or else beside the TOML."""
    told = files.keys.get("dataset_config")
    if told is None or not isinstance(told.value, str) or not told.value:
        return None
    places = [Path(told.value), *(path.parent / told.value for path in paths)]
    return next((place for place in places if place.is_file() and place not in paths), None)


def _parsed(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(f"there is no file {path}", do="give kohya's dataset TOML, config TOML, or both")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DataError(f"it is not UTF-8: byte {error.start}", where=str(path), do="save it as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        place = PLACE.search(str(error))
        where = f"{path}:{place[1]}:{place[2]}" if place and place[1] else f"{path}, at its end"
        what = PLACE.sub("", str(error)).strip()
        slashes = "; a Windows path wants single quotes or /" if "escape" in what.lower() or "unescaped" in what else ""
        raise DataError(f"no valid TOML: {what}", where=where, do=f"mend that line{slashes}") from error


def _add(files: Files, path: Path, table: Mapping[str, Any]) -> None:
    if not table:
        raise ConfigError("the file is empty", where=str(path), do="give kohya's dataset TOML, config TOML, or both")
    files.names.append(path.name)
    data = "datasets" in table
    if data:
        files.datasets += _datasets(table["datasets"], path)
    for key, value in table.items():
        if key == "datasets":
            continue
        if key == "general" and data:
            files.general.update(_table(value, path, key))
        elif isinstance(value, Mapping):  # a section: kohya's scripts ignore its name
            for inner, each in value.items():
                files.keys[inner] = Told(each, f"{path.name} [{key}]")
        else:
            files.keys[key] = Told(value, path.name)


def _datasets(value: Any, path: Path) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(each, Mapping) for each in value):
        raise ConfigError("datasets is no list of tables", where=str(path), do="write [[datasets]] with two brackets")
    for number, each in enumerate(value, 1):
        subsets = each.get("subsets")
        if not isinstance(subsets, list) or not all(isinstance(subset, Mapping) for subset in subsets) or not subsets:
            raise ConfigError(
                f"data set {number} has no subsets", where=str(path), do="write [[datasets.subsets]] with its image_dir"
            )
    return [dict(each) for each in value]


def _table(value: Any, path: Path, key: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{key} is no table", where=str(path), do=f"write [{key}]")
    return value

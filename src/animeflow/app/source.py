"""What an export says of itself: the model it is, the text it was trained with, its size and run. Knows records and config words;
loads no weights."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import ConfigError
from ..core.files import read_json
from ..model import registry
from .compose import choices, compose, compose_run, config_folder, key_of

CHOICES = ("experiment", "model", "name")  # words that choose a model


@dataclass(frozen=True)
class Export:
    """An export of ours: its folder, and the record that lies there."""

    folder: Path
    record: Mapping[str, Any]

    @classmethod
    def at(cls, path: Path) -> Export | None:
        """The export that `path` is, or is a layout or file of. None for what others wrote."""
        for folder in [path.absolute(), *path.absolute().parents][:4]:
            if (folder / "record.json").is_file():
                record = read_json(folder / "record.json")
                ours = isinstance(record, dict) and record.get("family") in registry.names()
                return cls(folder, record) if ours else None
        return None

    def words(self) -> list[str]:
        """The words of a command line that would sample this export: its model, its run's name and its size."""
        model, known = f"{self.record['family']}_{self.record.get('flavour')}", choices(config_folder(), "model")
        if model not in known:
            raise ConfigError(
                f"this export is {self.record['family']}, {self.record.get('flavour')}, and there is no such model config",
                where=str(self.folder / "record.json"),
                do=f"choose one with model=: {', '.join(known)}",
            )
        words, name = [f"model={model}"], str(self.record.get("name") or "")
        if re.fullmatch(r"[\w.+ -]+", name):
            words.append(f"name='{name}'")
        size = re.fullmatch(r"(\d+)x(\d+)", str(self.record.get("resolution") or ""))
        return words + ([f"sample.width={size[1]}", f"sample.height={size[2]}"] if size else [])

    def text(self, names: Collection[str]) -> dict[str, Any]:
        """The settings among `names` that it was trained with: a prompt has to be read as the captions were."""
        told = self.record.get("text") or {}
        return {name: told[name] for name in names if told.get(name) is not None}

    def identity(self, weights: Path) -> dict[str, Any]:
        """Which weights these are, for the recipe of a picture; `weights` is the file or folder that was read."""
        average = (self.record.get("ema") or {}).get("exported")
        kind = None if average is None else "ema" if average else "trained"
        facts = {"run": self.record.get("name"), "images_seen": self.record.get("images_seen"), "kind": kind}
        known = {key: value for key, value in facts.items() if value is not None}
        return known | {"source": weights.absolute().relative_to(self.folder).as_posix()}


def compose_sample(overrides: Sequence[str]) -> dict[str, Any]:
    """The config of a command that samples. Where no word chooses a model and the source is an export of ours, its record does;
    every word of the command line wins over it."""
    keys = {key_of(word) for word in overrides}
    if "sample.source" in keys and not keys.intersection(CHOICES):
        path = Path(compose([word for word in overrides if key_of(word) == "sample.source"])["sample"]["source"])
        export = Export.at(path) if path.exists() else None
        if export is not None:
            return compose([*export.words(), *overrides])  # the later word wins
    return compose_run(overrides)


def require_source(source: str) -> Path:
    """The path of `sample.source`. Raises ConfigError when there is nothing."""
    path = Path(source)
    if not path.exists():
        raise ConfigError(f"{path} does not exist", where="sample.source", do="give 'run', or the path of an export")
    manifest = path / "manifest.json"
    if manifest.is_file() and read_json(manifest).get("kind") == "lora":
        raise ConfigError(
            "this export is a LoRA, which adds to a base and draws nothing alone",
            where=f"sample.source={path}",
            do="give the base, and the file as sample.loras: animeflow sample sample.source=BASE sample.loras=FILE",
        )
    return path

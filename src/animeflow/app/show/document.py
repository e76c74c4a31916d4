"""What other files are: a shard, a picture with its recipe, a table, a manifest. Knows formats by their endings."""

from __future__ import annotations

import json
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

from ...core.errors import DataError
from . import page
from .shown import Shown

KINDS = (".tar", ".png", ".parquet", ".json", ".jsonl", ".yaml", ".yml", ".toml")


def show(path: Path) -> Shown:
    """Raises DataError for a file that is not what its name says."""
    kind = path.suffix.lower()
    if kind == ".tar":
        return _shard(path)
    if kind == ".png":
        return _picture(path)
    if kind == ".parquet":
        return _table(path)
    if kind == ".json":
        return _json(path)
    hints = {".toml": (f"animeflow import {path}",)}.get(kind, ())
    return Shown(
        "a text file", {"lines": sum(1 for _ in open(path, "rb")), "size": page.size(path.stat().st_size)}, hints
    )


def _shard(path: Path) -> Shown:
    try:
        with tarfile.open(path) as archive:
            members = archive.getmembers()
            end = max((member.offset_data + member.size for member in members), default=0)
            if end > path.stat().st_size:
                raise ValueError(f"it ends after {path.stat().st_size} bytes, and what it lists takes {end}")
            names = [Path(member.name) for member in members if member.isfile()]
            facts: dict[str, Any] = {}
            for member in members:
                if member.name.endswith(".json") and (file := archive.extractfile(member)):
                    facts = json.loads(file.read())
                    break
    except (tarfile.TarError, OSError, ValueError) as error:
        raise DataError(f"this is no whole tar file: {error}", where=str(path), do="run 'shard' again") from error
    kinds = Counter(name.suffix for name in names)
    keys = {name.name.split(".")[0] for name in names}
    first = {key: value for key, value in facts.items() if isinstance(value, str | int | float) and value != ""}
    return Shown(
        "a shard: samples of WebDataset, each of files with one name",
        {
            "samples": len(keys),
            "of": ", ".join(f"{n} {kind}" for kind, n in kinds.most_common()),
            "size": page.size(path.stat().st_size),
            "first sample": page.words(dict(list(first.items())[:8])) or None,
        },
        (f"animeflow show {path.parent.parent}",) if path.parent.parent.name == "shards" else (),
    )


def _picture(path: Path) -> Shown:
    from ...sample.png import read_recipe

    try:
        recipe = read_recipe(path)
    except DataError as error:
        return Shown(
            f"a picture without a recipe of animeflow ({error.what})", {"size": page.size(path.stat().st_size)}
        )
    model = recipe.get("model")
    if isinstance(model, dict):
        recipe = {**recipe, "model": {key: value for key, value in model.items() if key != "shape"}}
    return Shown("a picture, with the recipe that draws it again", recipe)


def _table(path: Path) -> Shown:
    what = {
        "catalogue": "the table of a catalogue",
        "index": "the index of shards",
        "ledger": "what a run saw of pictures",
    }
    return Shown(
        what.get(path.stem, "a table in Parquet"), {"size": page.size(path.stat().st_size)},
        (f"animeflow show {path.parent}",),
    )  # fmt: skip


def _json(path: Path) -> Shown:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"this is no JSON: {error}", where=str(path), do="copy it again") from error
    keys = list(value) if isinstance(value, dict) else []
    return Shown(
        "JSON",
        {
            "keys": ", ".join(map(str, keys[:12])) or None,
            "entries": len(value) if isinstance(value, dict | list) else None,
        },
    )

"""Say in words what a file or folder is, for whom it is, where it goes and where it comes from."""

from __future__ import annotations

import json as jsons
from collections.abc import Sequence
from pathlib import Path

import click

from ...core.errors import ConfigError, DataError, did_you_mean
from ..show import page
from ..show.header import PICKLED, pickled
from ..show.shown import Shown


def run(overrides: Sequence[str] = (), *, path: str, json: bool = False) -> None:
    shown = look(Path(path))
    if json:
        click.echo(jsons.dumps(shown.to_json(path), indent=2, ensure_ascii=False, default=str))
        return
    page.title(f"{path}: {shown.what}")
    page.facts(shown.facts)
    page.hints(shown.hints)


def look(path: Path) -> Shown:
    """Raises ConfigError where there is nothing, or nothing that is known; DataError for what is broken or pickled."""
    if path.is_dir():
        from ..show.folder import show_folder

        return show_folder(path)
    if not path.exists():
        beside = [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
        raise ConfigError(
            f"there is no {path}{did_you_mean(path.name, beside)}", where="FILE", do="give a file or folder"
        )
    return _file(path)


def _file(path: Path) -> Shown:
    from ..show import document, weights

    kind = path.suffix.lower()
    if kind in PICKLED:
        raise pickled(path)
    if kind == ".safetensors":
        return weights.show_file(path)
    if kind in document.KINDS:
        return document.show(path)
    with open(path, "rb") as file:
        start = file.read(16)
    if start[:4] == b"PK\x03\x04" or start[:1] == b"\x80":
        raise pickled(path)
    if start[8:9] == b"{":  # a safetensors file under another name
        return weights.show_file(path)
    raise DataError(
        f"a file of the kind '{kind or path.name}' is not known here", where=str(path),
        do="give a safetensors file, a shard, a picture, or a folder that animeflow wrote",
    )  # fmt: skip

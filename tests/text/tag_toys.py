"""Databases of tags for tests: the project's own sample, and small files of every kind."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

from animeflow.text.database import TagDatabase
from animeflow.text.importers.build import BuildReport, build


def sample_file() -> Path:
    """The table that the project ships."""
    return Path(str(resources.files("animeflow.text").joinpath("sample_tags.csv")))


def write(folder: Path, name: str, content: object) -> Path:
    """A file of text, of bytes, or of JSON."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def make(folder: Path, **files: object) -> tuple[TagDatabase, BuildReport]:
    """A database of files, whose names have `__` for the dot."""
    paths = [write(folder, name.replace("__", "."), content) for name, content in files.items()]
    report = build(paths, folder / "tags.db")
    return TagDatabase.open(folder / "tags.db"), report


def table(*rows: str) -> str:
    return "tag,category,count,aliases,nicknames,implies,ja,es,de,it\n" + "\n".join(rows) + "\n"

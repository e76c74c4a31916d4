"""The small models that come with the package: one finished demo run per family, and the oracle that reads drawn pictures.
Knows where they lie and how they are made again; loads no weights unless asked to."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ..core import files
from ..core.errors import ConfigError, DataError
from ..model import registry

LICENCE = "Apache-2.0"
ABOUT = (
    "A very small model with weights of our own, trained on pictures drawn by a program. It knows the drawn world of animeflow "
    "and nothing else: a base for trying LoRA training on a CPU in a minute, and for tests."
)


def folder() -> Path:
    """`bases/` of the package."""
    return Path(__file__).resolve().parents[1] / "bases"


def tiny_base(family: str) -> Path:
    """The folder of a family's small base, a diffusers pipeline with our record beside it.

    Raises:
        ConfigError: there is no such family, or no small base of it came with this package.
    """
    registry.cell(family)
    place = folder() / f"{family}_tiny"
    if not (place / "record.json").is_file():
        there = [name for name in registry.names() if (folder() / f"{name}_tiny" / "record.json").is_file()]
        raise ConfigError(
            f"no small base of {family} comes with this package",
            where=str(place),
            why=f"there is one of: {', '.join(there)}" if there else "none is there at all: the package is not whole",
            do="reinstall animeflow, or make it again in a checkout: make tiny-bases",
        )
    return place


def tiny_oracle() -> Path:
    """The folder of the oracle that comes with the package. Raises ConfigError when it is missing."""
    place = folder() / "oracle"
    if not (place / "oracle.json").is_file():
        raise ConfigError(
            "the oracle of the drawn world is missing",
            where=str(place),
            do="reinstall animeflow, or train one: animeflow oracle experiment=toonworld_tiny",
        )
    return place


def publish_base(export: Path, family: str, *, into: Path | None = None) -> Path:
    """Copy the diffusers layout of a demo's export to where `tiny_base` finds it, with a record and a card of its own.

    Raises:
        DataError: `export` is not an export of that family's small flavour, or has no diffusers layout.
    """
    from dataclasses import replace

    from ..export.card import card
    from ..export.export import manifest
    from ..export.record import FileRecord, RunRecord

    source = export / "diffusers"
    if not source.is_dir() or not (export / "record.json").is_file():
        raise DataError(
            "this is no export with a diffusers layout", where=str(export), do="run 'animeflow demo' to its end first"
        )
    record = RunRecord.load(export / "record.json")
    if (record.family, record.flavour) != (family, "tiny"):
        raise DataError(
            f"this export is {record.family}, {record.flavour}, not {family}, tiny", where=str(export / "record.json")
        )
    layout = registry.constructor(family)("tiny").layouts()["diffusers"]  # type: ignore[call-arg]
    place = (into or folder()) / f"{family}_tiny"
    with files.atomic_folder(place) as temporary:
        shutil.copytree(source, temporary, dirs_exist_ok=True)
        paths = sorted(file for file in temporary.rglob("*") if file.is_file())
        listed: list[FileRecord] = [
            {
                "path": path.relative_to(temporary).as_posix(),
                "bytes": path.stat().st_size,
                "sha256": files.sha256_file(path),
            }
            for path in paths
        ]
        record = replace(
            record, name=f"{family}_tiny", description=ABOUT, licence=LICENCE, layouts=["diffusers"], files=listed,
            places={"diffusers": layout.place}, examples=None, notes=layout.notes() or None,
        )  # fmt: skip
        record.save(temporary / "record.json")
        files.write_text(temporary / "README.md", card(record))
        files.write_json(temporary / "manifest.json", manifest(record, listed))
    return place


def publish_oracle(source: Path, *, into: Path | None = None) -> Path:
    """Copy a demo's oracle to where `tiny_oracle` finds it; it is read whole on the way."""
    from ..evaluate.oracle import Oracle

    place = (into or folder()) / "oracle"
    Oracle.load(source).save(place)
    for file in place.iterdir():
        file.chmod(0o644)  # safetensors writes files that only their owner reads
    return place


def figures(family: str) -> dict[str, Any]:
    """What the base's own record says it was measured to do."""
    return dict(files.read_json(tiny_base(family) / "record.json").get("results") or {})

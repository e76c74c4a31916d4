"""One export: layouts written into a fresh folder, read back, hashed and described. Knows layouts by their protocol; knows no run's
folder and no config."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ..core.errors import ConfigError, did_you_mean
from ..core.files import address, atomic_folder, sha256_file, write_json, write_text
from ..model.protocol import Family, Layout
from ..model.tensor_file import cast, dtype_named, verify
from .card import card
from .metadata import header
from .record import FileRecord, RunRecord

log = logging.getLogger(__name__)
MANIFEST, RECORD, CARD = "manifest.json", "record.json", "README.md"


@dataclass(frozen=True)
class ExportReport:
    """What was written. `files` holds every file but the manifest, relative to `folder`."""

    folder: Path
    layouts: tuple[str, ...]
    dtype: str
    files: tuple[FileRecord, ...]
    notes: tuple[str, ...]
    record: RunRecord
    seconds: float

    @property
    def bytes(self) -> int:
        return sum(file["bytes"] for file in self.files)


def export(
    family: Family,
    state: Mapping[str, Tensor],
    out: str | Path,
    *,
    layouts: Sequence[str] = ("diffusers", "single_file"),
    dtype: str = "bf16",
    record: RunRecord,
    name: str | None = None,
) -> ExportReport:
    """Write `out/LAYOUT/...` for every layout, `README.md`, `record.json` and `manifest.json`; all of it or nothing.

    Args:
        state: backbone weights under the names of `export_state()`: trained ones or their average.
        out: replaced when it holds an earlier export.
        name: of the model files; default: the record's name, else family and flavour.

    Raises:
        ConfigError: a layout or dtype is unknown, the name cannot name a file, or `out` holds something else.
        DataError: a weight is not finite or does not fit the dtype, or what was read back is not what was written.
    """
    started, out = time.monotonic(), Path(out)
    chosen = _choose(family, layouts)
    record = _complete(record, family, chosen, dtype=dtype)
    stem = file_name(name or str(record.name))
    check_place(out)
    with atomic_folder(out) as folder:
        for layout in chosen:
            _write(layout, state, folder / layout.name, dtype=dtype, record=record, stem=stem)
        notes = list(dict.fromkeys(note for layout in chosen for note in layout.notes()))
        record = replace(record, notes=notes or None, files=facts_of(folder))
        record.save(folder / RECORD)
        write_text(folder / CARD, card(record))
        files = facts_of(folder)
        write_json(folder / MANIFEST, manifest(record, files))
    report = ExportReport(
        folder=out,
        layouts=tuple(layout.name for layout in chosen),
        dtype=dtype,
        files=tuple(files),
        notes=tuple(notes),
        record=record,
        seconds=time.monotonic() - started,
    )
    log.info("exported %s: %d files, %.1f MB, every tensor read back", out, len(files), report.bytes / 1e6)
    return report


def manifest(record: RunRecord, files: Sequence[FileRecord]) -> dict[str, Any]:
    """Counts, hashes and the config that made it. Equal exports have equal manifests."""
    return {
        "kind": "export",
        "files": list(files),
        "counts": {"files": len(files), "bytes": sum(file["bytes"] for file in files)},
        "layouts": record.layouts,
        "places": record.places,
        "dtype": record.dtype,
        "config_hash": record.config_hash,
        "record": address(**record.to_json()),
    }


def _write(
    layout: Layout,
    state: Mapping[str, Tensor],
    folder: Path,
    *,
    dtype: str,
    record: RunRecord,
    stem: str,
) -> None:
    """One layout, then its backbone read back through the layout's own reader and compared with what went in."""
    folder.mkdir()
    target = dtype_named(dtype)
    metadata = header(record, layout=layout.name)
    layout.write(state, folder, dtype=target, metadata=metadata, stem=stem)
    if layout.has_backbone:
        verify(cast(state, target), layout.read(folder), where=f"{layout.name} layout")


def _choose(family: Family, names: Sequence[str]) -> list[Layout]:
    known = family.layouts()
    if not names:
        raise ConfigError("no layout chosen", where="export.layouts", do=f"choose among: {', '.join(known)}")
    for name in names:
        if name not in known:
            raise ConfigError(
                f"{family.name} has no layout '{name}'{did_you_mean(name, known)}",
                where="export.layouts",
                do=f"choose among: {', '.join(known)}",
            )
    return [known[name] for name in dict.fromkeys(names)]


def _complete(record: RunRecord, family: Family, layouts: Sequence[Layout], *, dtype: str) -> RunRecord:
    dtype_named(dtype)
    return replace(
        record,
        name=record.name or f"{family.name}-{family.flavour}",
        family=record.family or family.name,
        flavour=record.flavour or family.flavour,
        model_spec=dict(family.model_spec),
        layouts=[layout.name for layout in layouts],
        places={layout.name: layout.place for layout in layouts},
        examples={layout.name: layout.example for layout in layouts if layout.example},
        dtype=dtype,
    )


def file_name(name: str) -> str:
    """`name`, which begins the names of files. Raises ConfigError for one that cannot."""
    if not re.fullmatch(r"[\w.+-][\w.+ -]*", name) or name.startswith("."):
        raise ConfigError(
            f"'{name}' cannot name a file",
            where="export.name",
            do="use letters, digits and . _ + - (a space inside is fine)",
        )
    return name


def check_place(out: Path) -> None:
    """An export replaces an earlier one; it never removes anything else."""
    if out.exists() and not (out.is_dir() and ((out / MANIFEST).is_file() or not any(out.iterdir()))):
        raise ConfigError(
            f"'{out}' exists and is no earlier export",
            where="export.out",
            why="an export replaces the whole folder",
            do="choose a new folder, or move what is there",
        )


def facts_of(folder: Path) -> list[FileRecord]:
    """Path, size and hash of every file below an export but its manifest."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name != MANIFEST)
    return [
        FileRecord(path=file.relative_to(folder).as_posix(), bytes=file.stat().st_size, sha256=sha256_file(file))
        for file in files
    ]

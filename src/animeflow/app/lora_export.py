"""The files of a LoRA run: one per dialect, the canonical one among them, a model card, and a second look at all of them. Knows
records and folders; knows no tensor's name."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core import files
from ..core.errors import ConfigError, did_you_mean

log = logging.getLogger(__name__)

CANONICAL = "peft"  # what the others are written from


@dataclass(frozen=True)
class LoraExport:
    """What was written.

    Attributes:
        files: dialect -> the file that a program loads, or the folder of `CANONICAL`.
        notes: what these files cannot do.
    """

    folder: Path
    files: Mapping[str, Path]
    layers: int
    bytes: int
    notes: tuple[str, ...]
    seconds: float


def write(config: Mapping[str, Any], fam: Any, record: Mapping[str, Any], *, out: Path) -> LoraExport:
    """Write every dialect of `export.dialects` into `out`, all of it or nothing, each read back and compared.

    Args:
        fam: with the additions that are to be written on its backbone.
        record: what the run says about itself, for headers and card.
    Raises:
        ConfigError: an unknown dialect, or `out` holds something else.
        DataError: a number is not finite, or a file does not give back what was written.
    """
    from ..export.export import check_place, file_name
    from ..learn.files import write_lora
    from ..learn.metadata import lora_metadata
    from ..learn.state import lora_state
    from ..model.tensor_file import dtype_named

    started, node, known = time.monotonic(), config["export"], fam.dialects()
    places = _places(file_name(str(config["name"])), _chosen(node.get("dialects"), known))
    state, dtype = lora_state(fam.backbone(), fam), dtype_named(node["dtype"])
    check_place(out)
    with files.atomic_folder(out) as folder:
        for dialect, place in places.items():
            metadata = lora_metadata(fam, state, record, dialect=dialect)
            write_lora(folder / place, state, family=fam.name, dialect=dialect, dtype=dtype, metadata=metadata)
        notes = tuple(dict.fromkeys(note for each in places for note in known[each].notes(state)))
        told = {each: _told(known[each], state) | {"file": place} for each, place in places.items()}
        size = _describe(folder, {**record, "dtype": node["dtype"], "dialects": told, "notes": list(notes) or None})
    report = LoraExport(
        folder=out,
        files={dialect: out / place for dialect, place in places.items()},
        layers=len(state),
        bytes=size,
        notes=notes,
        seconds=time.monotonic() - started,
    )
    log.info(
        "exported %s: %s, %d layers, %.1f MB, every tensor read back", out, ", ".join(places), len(state), size / 1e6
    )
    return report


def _places(name: str, dialects: Sequence[str]) -> dict[str, str]:
    """Dialect -> file, or the folder of `CANONICAL`, by its name below the export."""
    ends = {dialect: "" if i == 0 else f"_{dialect}" for i, dialect in enumerate(dialects)}
    return {each: each if each == CANONICAL else f"{name}{end}.safetensors" for each, end in ends.items()}


def _told(dialect: Any, state: Any) -> dict[str, Any]:
    """What card and record say of a dialect."""
    return {"readers": list(dialect.readers_of(state)), "place": dialect.place, "example": dialect.example}


def _describe(folder: Path, record: dict[str, Any]) -> int:
    """Record, card and manifest beside the files. Returns the bytes of all."""
    from ..export.export import CARD, MANIFEST, RECORD, facts_of
    from ..export.lora_card import lora_card

    record = {**record, "files": facts_of(folder)}
    files.write_json(folder / RECORD, record)
    files.write_text(folder / CARD, lora_card(record))
    written = facts_of(folder)
    counts = {"files": len(written), "bytes": sum(file["bytes"] for file in written)}
    files.write_json(folder / MANIFEST, {"kind": "lora", "files": written, "counts": counts, "dtype": record["dtype"]})
    return int(counts["bytes"])


def _chosen(asked: Sequence[str] | None, known: Mapping[str, Any]) -> list[str]:
    """Dialects in order; the first names its file without a suffix."""
    if asked is None:
        usual = ("kohya", "diffusers", CANONICAL)
        return [name for name in usual if name in known] or list(known)
    for name in asked:
        if name not in known:
            raise ConfigError(
                f"there is no dialect '{name}'{did_you_mean(name, known)}",
                where="export.dialects",
                do=f"choose among: {', '.join(known)}",
            )
    if not asked:
        raise ConfigError("no dialect chosen", where="export.dialects", do=f"choose among: {', '.join(known)}")
    return list(dict.fromkeys(asked))

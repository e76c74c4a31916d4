"""What a run left on disk, as plain values. Knows file names; knows no page. What is missing stays missing, and nothing
is made up.
"""

from __future__ import annotations

import json
import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.errors import DataError
from ..core.files import read_json

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReportInput:
    """Everything a report shows.

    Attributes:
        folder: of the run.
        metrics: lines of `metrics.jsonl`, sorted by images seen.
        record: `record.json`: what the run says about itself (name, seconds, hardware, data, versions, ...).
        config, preset: flat settings of this run and of the preset it began from; a key is `room.option`.
        samples: images seen -> prompt number -> picture file, from `samples/<images>/<number>.png`.
        prompts: of those numbers.
        adherence: `adherence.json`, as `AdherenceReport.as_dict` wrote it.
        identity: `identity.json`, as `IdentityReport.as_dict` wrote it.
        languages: `languages.json`, as `ParityReport.as_dict` wrote it.
        official: `official.json`, as `OfficialReport.as_dict` wrote it.
        screening: `screening.json`: what was found of what was planted among the pictures.
        export: `export/manifest.json`.
        rejected: reason -> pictures that were found and not taken.
        solvers: one row per solver: `{"solver", "steps", "nfe", "seconds", "adherence", ...}`.
    """

    folder: Path
    metrics: list[dict[str, Any]] = field(default_factory=list)
    record: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    preset: dict[str, Any] = field(default_factory=dict)
    samples: dict[int, dict[int, Path]] = field(default_factory=dict)
    prompts: list[str] = field(default_factory=list)
    adherence: dict[str, Any] = field(default_factory=dict)
    identity: dict[str, Any] = field(default_factory=dict)
    languages: dict[str, Any] = field(default_factory=dict)
    official: dict[str, Any] = field(default_factory=dict)
    screening: dict[str, Any] = field(default_factory=dict)
    export: dict[str, Any] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)
    solvers: list[dict[str, Any]] = field(default_factory=list)

    def points(self, key: str) -> list[tuple[float, float | None]]:
        """(images seen, value) of one number, in order; lines without it are left out, its nulls stay as gaps."""
        return [(float(line["images"]), _number(line[key])) for line in self.metrics if key in line]

    def has(self, key: str) -> bool:
        return any(value is not None for _, value in self.points(key))

    def last(self, key: str) -> float | None:
        known = [value for _, value in self.points(key) if value is not None]
        return known[-1] if known else None

    @property
    def images_seen(self) -> int | None:
        return self.record.get("images_seen") or (int(self.metrics[-1]["images"]) if self.metrics else None)

    @property
    def data(self) -> dict[str, Any]:
        found = self.record.get("data")
        return found if isinstance(found, dict) else {}


def read_run(
    folder: str | Path,
    *,
    config: Mapping[str, Any] | None = None,
    preset: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> ReportInput:
    """Read a run's folder.

    Args:
        config, preset: settings, nested or flat; the run's `config.json` when None. Without a preset there is no comparison.
        extra: laid over the record: what is known only after training, such as `{"solvers": [...], "price": {...}}`.

    Raises DataError when there is no such folder; missing or broken parts are logged and left out.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError("there is no such run", where=str(folder), do="give the folder of a run, e.g. runs/demo")
    record = {**_mapping(folder / "record.json"), **(extra or {})}
    settings = config if config is not None else _mapping(folder / "config.json")
    rejected = _rejected(folder / "rejected.jsonl") or dict(record.get("data", {}).get("rejected", {}))
    prompts = _prompts(_json(folder / "samples" / "prompts.json"))
    return ReportInput(
        folder=folder,
        metrics=_metrics(folder / "metrics.jsonl"),
        record=record,
        config=flat(settings),
        preset=flat(preset or {}),
        samples=_samples(folder / "samples"),
        prompts=prompts,
        adherence=record.get("adherence") or _mapping(folder / "adherence.json"),
        identity=_mapping(folder / "identity.json"),
        languages=_mapping(folder / "languages.json"),
        official=_mapping(folder / "official.json"),
        screening=_mapping(folder / "screening.json"),
        export=_mapping(folder / "export" / "manifest.json"),
        rejected=rejected,
        solvers=list(record.get("solvers") or _json(folder / "solvers.json") or []),
    )


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings with dotted keys; lists stay values."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            result |= flat(value, f"{prefix}{key}.")
        else:
            result[f"{prefix}{key}"] = value
    return result


def _metrics(path: Path) -> list[dict[str, Any]]:
    """Whole lines only: the last one of a run in progress may be half written. Several lines may share a number of images."""
    lines = [line for line in _lines(path) if isinstance(line.get("images"), (int, float))]
    return sorted(lines, key=lambda line: line["images"])


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    broken = 0
    for text in path.read_text(errors="replace").splitlines():
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            broken += 1
            continue
        if isinstance(value, dict):
            yield value
    if broken:
        log.warning("%s: %d lines are not whole and are left out", path, broken)


def _json(path: Path) -> Any:
    if not path.is_file():
        return None
    try:
        return read_json(path)
    except ValueError as error:
        log.warning("%s is not JSON and is left out: %s", path, error)
        return None


def _mapping(path: Path) -> dict[str, Any]:
    value = _json(path)
    return value if isinstance(value, dict) else {}


def _prompts(value: Any) -> list[str]:
    """A list of strings, or of objects that name their prompt."""
    rows = value if isinstance(value, list) else []
    return [
        row if isinstance(row, str) else str(row.get("prompt", "")) if isinstance(row, dict) else "" for row in rows
    ]


def _samples(folder: Path) -> dict[int, dict[int, Path]]:
    found: dict[int, dict[int, Path]] = {}
    for path in folder.glob("*/*.png") if folder.is_dir() else ():
        if path.parent.name.isdecimal() and path.stem.isdecimal():
            found.setdefault(int(path.parent.name), {})[int(path.stem)] = path
    return {images: dict(sorted(found[images].items())) for images in sorted(found)}


def _rejected(path: Path) -> dict[str, int]:
    return dict(Counter(str(line.get("reason", "unknown")) for line in _lines(path)).most_common())


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None

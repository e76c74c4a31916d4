"""What a run says about itself: the one source of every figure in headers and model card. Knows JSON; knows no tensor.

Every field is optional; what is missing is printed as "not recorded" and never guessed. Numbers are printed as they are here, so
whoever fills the record rounds them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypedDict

from ..core.errors import DataError, did_you_mean
from ..core.files import read_json, write_json


class DataRecord(TypedDict, total=False):
    """The set a model was trained on. Counts are pictures."""

    images: int
    counts: dict[str, int]  # by step of the path: found, kept, rejected, train, val
    sources: dict[str, int]  # by adapter name
    origins: dict[str, int]  # human, ai, ai_assisted, drawn_by_program, unknown
    ratings: dict[str, int]  # general, sensitive, questionable, explicit, unknown
    buckets: dict[str, int]  # by "HxW"
    rejected: dict[str, int]  # by reason
    reviewed: str  # what share was looked at by a person, in words
    snapshot: str  # date of the newest picture or of the dump
    catalogue_hash: str
    manifest_hash: str
    licence_note: str


class FileRecord(TypedDict):
    """One exported file; `path` is relative to the export."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One run, at the state that is exported.

    Attributes:
        name: of the run; also the title of the model.
        date: ISO, of the exported state.
        base: what the weights started from: a repository (`owner/name`), a file's name, or "random weights".
        parent: the checkpoint exported, or the export this run went on from.
        resolution: `WxH` in pixels, the largest or usual one.
        optimizer, schedule, flow: settings as the run was given them, e.g. `{"name": "adamw", "lr": 1e-4}`.
        ema: `None`, or settings of the average and whether it is what was exported.
        parts: identity of codec and text encoders, such as their fingerprints.
        text_encoder: whether it learned: "frozen".
        model_settings: what else the family says of itself, such as which of its parts learned.
        text: settings that change what the text encoders give.
        seconds, device_hours: of training; the second over all devices.
        caption_policy: as the run was given it.
        prompts: example prompts as the captions of the training wrote them, with plain parentheses.
        sampling: solver, schedule, steps, cfg, shift, negative that a command without such words draws with.
        results: metric -> value.
        limitations: sentences about what was measured to fail.
        changes: since the parent, newest first.
        layouts, dtype, notes, files: filled in by the export itself.
        model_spec: what the family calls itself in file headers; filled in by the export, as are
        places, examples: by layout, where its files go, and code that loads them, as Markdown.
    """

    name: str | None = None
    description: str | None = None
    author: str | None = None
    licence: str | None = None
    date: str | None = None
    family: str | None = None
    flavour: str | None = None
    model_spec: dict[str, str] | None = None
    base: str | None = None
    parent: str | None = None
    resolution: str | None = None
    images_seen: int | None = None
    steps: int | None = None
    effective_batch: int | None = None
    optimizer: dict[str, Any] | None = None
    schedule: dict[str, Any] | None = None
    flow: dict[str, Any] | None = None
    precision: str | None = None
    ema: dict[str, Any] | None = None
    parts: dict[str, str] | None = None
    text_encoder: str | None = None
    model_settings: dict[str, str] | None = None
    text: dict[str, Any] | None = None
    hardware: str | None = None
    seconds: float | None = None
    device_hours: float | None = None
    data: DataRecord | None = None
    caption_policy: dict[str, Any] | None = None
    prompts: list[str] | None = None
    sampling: dict[str, Any] | None = None
    results: dict[str, Any] | None = None
    limitations: list[str] | None = None
    changes: list[str] | None = None
    seed: int | None = None
    versions: dict[str, str] | None = None
    config_hash: str | None = None
    git_commit: str | None = None
    layouts: list[str] | None = None
    places: dict[str, str] | None = None
    examples: dict[str, str] | None = None
    dtype: str | None = None
    notes: list[str] | None = None
    files: list[FileRecord] | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON without the fields that are not recorded."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, value: Mapping[str, Any], *, where: str | None = None) -> RunRecord:
        """Inverse of `to_json`.

        Raises:
            DataError: a field is unknown.
        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(value.keys() - known)
        if unknown:
            raise DataError(
                f"a run record has no field '{unknown[0]}'{did_you_mean(unknown[0], known)}",
                where=where,
                do=f"known fields: {', '.join(sorted(known))}",
            )
        return cls(**value)

    def save(self, path: str | Path) -> None:
        write_json(path, self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> RunRecord:
        return cls.from_json(read_json(path), where=str(path))

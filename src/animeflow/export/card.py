"""The model card: Markdown with Hugging Face's front matter, written from a run's record. Knows records; knows no run.

Every figure comes from a field of the record, as it is there. The template itself holds no digit outside `FIXED_NAMES`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ..text.emphasis import escape, unescape
from .markdown import MISSING, cell, table, words
from .record import RunRecord

FIXED_NAMES = ("sha256",)  # all the template's words with a digit


def card(record: RunRecord) -> str:
    """README.md of an export."""
    sections = [
        _front_matter(record),
        f"# {words(record.name)}",
        record.description or "",
        _model(record),
        _data(record),
        _recipe(record),
        _prompts(record),
        _sampling(record),
        _results(record),
        _files(record),
        _changes(record),
        _provenance(record),
    ]
    return "\n\n".join(section.strip() for section in sections if section.strip()) + "\n"


def _front_matter(record: RunRecord) -> str:
    facts: dict[str, Any] = {
        "license": record.licence or "other",
        "library_name": "diffusers" if "diffusers" in (record.layouts or []) else None,
        "pipeline_tag": "text-to-image",
        "base_model": record.base if record.base and re.fullmatch(r"[\w.-]+/[\w.-]+", record.base) else None,
        "tags": ["animeflow", "text-to-image", "anime", *filter(None, [record.family])],
    }
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in facts.items() if value is not None]
    return "\n".join(["---", *lines, "---"])


def _model(record: RunRecord) -> str:
    rows = {
        "family": record.family,
        "flavour": record.flavour,
        "in file headers": record.model_spec,
        "base": record.base,
        "made from": record.parent,
        "author": record.author,
        "licence": record.licence,
        "date": record.date,
        "files in": record.dtype,
    }
    return "## Model\n\n" + table(rows)


def _data(record: RunRecord) -> str:
    data: Mapping[str, Any] = record.data or {}
    facts = {
        "pictures": data.get("images"),
        "snapshot": data.get("snapshot"),
        "catalogue hash": data.get("catalogue_hash"),
        "manifest hash": data.get("manifest_hash"),
        "looked at by a person": data.get("reviewed"),
        "licence of the pictures": data.get("licence_note"),
    }
    parts = ["## Data", table(facts), data.get("statement") or _synthetic(data.get("origins"))]
    for title, key in (
        ("Pictures by step", "counts"),
        ("By source", "sources"),
        ("By origin", "origins"),
        ("By rating", "ratings"),
        ("By bucket (height x width)", "buckets"),
        ("Rejected, by reason", "rejected"),
    ):
        value = data.get(key)
        parts.append(f"{title}:\n\n{table(value)}" if value else f"{title}: {MISSING}.")
    return "\n\n".join(parts)


def _synthetic(origins: Mapping[str, int] | None) -> str:
    """The statement about pictures that no person drew, from the counts by origin. Silence is never read as "none"."""
    if not origins or not any(origins.values()):
        return f"Synthetic pictures: {MISSING}."
    names = {
        "ai": "made by a generator",
        "ai_assisted": "made with a generator's help",
        "drawn_by_program": "drawn by a program",
        "unknown": "of unknown origin",
    }
    others = {key: count for key, count in origins.items() if key != "human" and count}
    if not others:
        return "Synthetic pictures: none; every picture is recorded as made by a person."
    return (
        "Synthetic pictures: "
        + ", ".join(f"{n} {names.get(key, f'of origin `{key}`')}" for key, n in others.items())
        + "."
    )


def _recipe(record: RunRecord) -> str:
    rows = {
        "images seen": record.images_seen,
        "optimizer steps": record.steps,
        "effective batch": record.effective_batch,
        "resolution (width x height)": record.resolution,
        "optimizer": record.optimizer,
        "schedule": record.schedule,
        "flow": record.flow,
        "precision": record.precision,
        "average of weights (EMA)": record.ema,
        "text encoders": record.text_encoder,
        "frozen parts": record.parts,
        "model settings": record.model_settings,
        "text settings": record.text,
        "captions": record.caption_policy,
        "seed": record.seed,
        "hardware": record.hardware,
        "seconds": record.seconds,
        "device hours": record.device_hours,
    }
    return "## Training details\n\n" + table(rows)


def _prompts(record: RunRecord) -> str:
    text = ["## Prompts"]
    if record.prompts:
        text.append(
            "Written like the captions of the training. Parentheses are escaped, because ComfyUI reads plain ones as emphasis:"
        )
        text.append("```\n" + "\n".join(escape(unescape(prompt)) for prompt in record.prompts) + "\n```")
        text.append("diffusers takes prompts literally: write plain parentheses there.")
    else:
        text.append(f"Example prompts: {MISSING}.")
    return "\n\n".join(text)


def _sampling(record: RunRecord) -> str:
    text = ["## Sampling", table(record.sampling) if record.sampling else f"Settings: {MISSING}."]
    return "\n\n".join([*text, *(record.examples or {}).values()])


def _results(record: RunRecord) -> str:
    text = ["## Measured results", table(record.results) if record.results else f"Results: {MISSING}."]
    limits = [*(record.limitations or []), *(record.notes or [])]
    text.append("## Known limitations")
    text.append("\n".join(f"- {limit}" for limit in limits) if limits else f"Limitations: {MISSING}.")
    return "\n\n".join(text)


def _files(record: RunRecord) -> str:
    places = {layout: (record.places or {}).get(layout) for layout in record.layouts or []}
    text = ["## Files", table(places, head=("folder", "place")) if places else f"Layouts: {MISSING}."]
    files = record.files or []
    rows = [f"| `{cell(file['path'])}` | {file['bytes']} | `{file['sha256']}` |" for file in files]
    text.append("\n".join(["| file | bytes | sha256 |", "|---|---|---|", *rows]) if rows else f"Files: {MISSING}.")
    return "\n\n".join(text)


def _changes(record: RunRecord) -> str:
    return "## Changes\n\n" + "\n".join(f"- {change}" for change in record.changes) if record.changes else ""


def _provenance(record: RunRecord) -> str:
    rows = {"config hash": record.config_hash, "commit": record.git_commit, "versions": record.versions}
    return (
        "## Provenance\n\n"
        + table(rows)
        + "\n\nWritten by animeflow from `record.json`; no figure here was typed by hand."
    )

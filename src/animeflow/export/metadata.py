"""Strings for a safetensors header: what the model is (`modelspec.*`) and where it comes from (`animeflow.*`). Knows records only.

`modelspec` is Stability's Model Metadata Standard 1.0.1; the hash of the tensors is added by whoever writes the file.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from .record import RunRecord

SPEC = "1.0.1"


def header(record: RunRecord, *, layout: str, now: datetime | None = None) -> dict[str, str]:
    """Header of one layout's backbone file. The date is the record's; only a record without one gets the clock's."""
    date = record.date or (now or datetime.now(UTC)).isoformat(timespec="seconds")
    model = record.model_spec or {}
    architecture = model.get("architecture", record.family or "unknown")
    spec = {
        "sai_model_spec": SPEC,
        "architecture": "-".join(filter(None, [architecture, record.flavour])),
        "implementation": "diffusers" if layout == "diffusers" else model.get("implementation", "animeflow"),
        "title": record.name,
        "resolution": record.resolution,
        "description": record.description,
        "author": record.author,
        "license": record.licence,
        "date": date,
        "prediction_type": "velocity",
    }
    return _strings("modelspec", spec) | _strings("animeflow", provenance(record))


def provenance(record: RunRecord) -> dict[str, Any]:
    """Enough to find the run, its data and its code again."""
    data = record.data or {}
    return {
        "run": record.name,
        "family": record.family,
        "flavour": record.flavour,
        "base": record.base,
        "parent": record.parent,
        "images_seen": record.images_seen,
        "steps": record.steps,
        "ema": record.ema,
        "seed": record.seed,
        "config_hash": record.config_hash,
        "catalogue_hash": data.get("catalogue_hash"),
        "manifest_hash": data.get("manifest_hash"),
        "git_commit": record.git_commit,
        "versions": record.versions,
    }


def _strings(group: str, facts: dict[str, Any]) -> dict[str, str]:
    """Header values are strings; what is not recorded has no key."""
    return {
        f"{group}.{key}": value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)
        for key, value in facts.items()
        if value is not None
    }

"""Strings for the header of a LoRA file, and what they say in words. Knows records and tensors; knows no file and no family.

`ss_*` are the words of kohya's scripts, which many programs show; `modelspec.*` is Stability's Model Metadata Standard 1.0.1;
`animeflow.*` is where it comes from. All values are strings, and JSON where kohya's are. What is not recorded has no key, but for
the six that kohya's scripts write even when they are asked for none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from safetensors.torch import save
from torch import Tensor

from ..model import registry
from ..model.low_rank import LowRankState
from ..model.protocol import Family

SPEC = "1.0.1"
LEGACY_AT, LEGACY_BYTES = 0x100000, 0x10000  # the piece of the file that the old hash is of


def lora_metadata(
    family: Family,
    state: LowRankState,
    record: Mapping[str, Any],
    *,
    dialect: str | None = None,
    tags: Mapping[str, Mapping[str, int]] | None = None,
) -> dict[str, str]:
    """The header of one run's LoRA.

    Args:
        state: ranks and scales are read here: of layers that differ they are "Dynamic", as kohya has it.
        record: of the run, as its `record.json` has it, with what learned under `learn`; any fact may be missing.
        dialect: of this file.
        tags: how often each tag was seen, by concept.
    """
    word = trigger(record)
    facts = {
        **_network(family, state, record.get("learn") or {}),
        **{f"ss_{key}": value for key, value in _training(record).items()},
        **{f"ss_{key}": value for key, value in _data(record, tags).items()},
        **{f"modelspec.{key}": value for key, value in _spec(record, family, word).items()},
        **{f"animeflow.{key}": value for key, value in _provenance(record, family, word).items()},
        "animeflow.dialect": dialect,
    }
    return {key: _string(value) for key, value in facts.items() if value is not None}


def trigger(record: Mapping[str, Any]) -> str | None:
    """The words to prompt for, those of several concepts with commas between; None where the record has none."""
    if record.get("trigger"):
        return str(record["trigger"])
    concepts = (record.get("caption_policy") or {}).get("concepts") or {}
    return ", ".join(str(each["trigger"]) for each in concepts.values() if each.get("trigger")) or None


def hashes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> dict[str, str]:
    """`sshs_model_hash` and `sshs_legacy_hash`, as `precalculate_safetensors_hashes` of sd-scripts' library/train_util.py defines
    them: of a file with these tensors and the `ss_*` strings alone, sha256 of all bytes after the header; and the first 8 digits
    of the sha256 of the 64 KiB after the first MiB. None for a header without words of kohya's."""
    if not any(key.startswith("ss_") for key in metadata):
        return {}
    data = save(dict(tensors), {key: value for key, value in metadata.items() if key.startswith("ss_")})
    body = 8 + int.from_bytes(data[:8], "little")
    legacy = data[LEGACY_AT : LEGACY_AT + LEGACY_BYTES]
    return {
        "sshs_model_hash": hashlib.sha256(memoryview(data)[body:]).hexdigest(),
        "sshs_legacy_hash": hashlib.sha256(legacy).hexdigest()[:8],
    }


def _network(family: Family, state: LowRankState, learn: Mapping[str, Any]) -> dict[str, Any]:
    """The minimum that kohya's scripts always write, and that their readers ask for."""
    ranks, alphas = ({each.rank for each in state.values()}, {float(each.alpha) for each in state.values()})
    own = {key: learn[key] for key in ("targets", "rslora", "dropout", "base_dtype") if learn.get(key)}
    return {
        "ss_v2": "False",
        **registry.kohya_header(family.name, family.flavour),
        "ss_network_dim": ranks.pop() if len(ranks) == 1 else "Dynamic",
        "ss_network_alpha": alphas.pop() if len(alphas) == 1 else "Dynamic",
        "ss_network_args": own,
    }


def _training(record: Mapping[str, Any]) -> dict[str, Any]:
    optimizer, schedule = dict(record.get("optimizer") or {}), dict(record.get("schedule") or {})
    flow, name = record.get("flow") or {}, str(optimizer.pop("name", "")) or None
    rate, batch = optimizer.pop("lr", None), record.get("effective_batch")
    epochs = _epochs(record)
    warmup, law = schedule.get("warmup_images"), flow.get("density.law")
    return {
        "output_name": record.get("name"),
        "sd_model_name": record.get("base"),
        "learning_rate": rate,
        "unet_lr": rate,
        "optimizer": None if name is None else name + (f"({_arguments(optimizer)})" if optimizer else ""),
        "lr_scheduler": schedule.get("kind"),
        "lr_warmup_steps": round(warmup / batch) if warmup is not None and batch else None,
        "steps": record.get("steps"),
        "max_train_steps": record.get("steps"),
        "total_batch_size": batch,
        "num_epochs": epochs,
        "epoch": epochs,
        "mixed_precision": _precision(record.get("precision")),
        "seed": record.get("seed"),
        "training_finished_at": _seconds(record.get("date")),
        "training_started_at": _seconds(record.get("date"), before=record.get("seconds")),
        "weighting_scheme": law,
        "logit_mean": flow.get("density.mean") if law == "logit_normal" else None,
        "logit_std": flow.get("density.std") if law == "logit_normal" else None,
        "discrete_flow_shift": flow.get("shift.value") if flow.get("shift.mode") == "fixed" else None,
    }


def _data(record: Mapping[str, Any], tags: Mapping[str, Mapping[str, int]] | None) -> dict[str, Any]:
    data = record.get("data") or {}
    size, buckets, repeats = _size(record.get("resolution")), data.get("buckets"), data.get("repeats") or {}
    places = [[int(side) for side in reversed(name.split("x"))] for name in buckets or {}]
    return {
        "resolution": f"({size[0]}, {size[1]})" if size else None,
        "num_train_images": data.get("images"),
        "bucket_info": None if not buckets else {
            "buckets": {
                str(i): {"resolution": place, "count": count}
                for i, (place, count) in enumerate(zip(places, buckets.values(), strict=True))
            }
        },
        "dataset_dirs": None if not data.get("sources") else {
            name: {"img_count": count} | ({"n_repeats": repeats[name]} if name in repeats else {})
            for name, count in data["sources"].items()
        },
        "tag_frequency": None if not tags else {name: dict(counts) for name, counts in tags.items()},
    }  # fmt: skip


def _epochs(record: Mapping[str, Any]) -> int | None:
    """How often all pictures came, repeats counted as kohya counts them; None where one's repeats are not known. What was left out
    for validation is taken to be spread over the concepts as the pictures are."""
    data, seen = record.get("data") or {}, record.get("images_seen")
    counts, repeats = data.get("sources") or {}, data.get("repeats") or {}
    if not seen or not data.get("images") or not sum(counts.values()) or not counts.keys() <= repeats.keys():
        return None
    times = sum(count * repeats[name] for name, count in counts.items()) / sum(counts.values())
    return max(1, round(seen / (data["images"] * times)))


def _spec(record: Mapping[str, Any], family: Family, word: str | None) -> dict[str, Any]:
    architecture = family.model_spec.get("architecture", family.name)
    return {
        "sai_model_spec": SPEC,
        "architecture": f"{architecture}-{family.flavour}/lora",
        "implementation": family.model_spec.get("implementation"),
        "title": record.get("name"),
        "description": record.get("description"),
        "author": record.get("author"),
        "license": record.get("licence"),
        "date": record.get("date"),
        "resolution": record.get("resolution"),
        "prediction_type": "velocity",
        "trigger_phrase": word,
    }


def _provenance(record: Mapping[str, Any], family: Family, word: str | None) -> dict[str, Any]:
    data = record.get("data") or {}
    kept = ("learn", "optimizer", "schedule", "flow", "precision", "ema", "caption_policy", "seed", "effective_batch")
    recipe = {key: record[key] for key in kept if record.get(key) is not None}
    return {
        "family": family.name,
        "flavour": family.flavour,
        "run": record.get("name"),
        "base": record.get("base"),
        "images_seen": record.get("images_seen"),
        "trigger": word,
        "recipe": recipe or None,
        "data": data.get("manifest_hash"),
        "config_hash": record.get("config_hash"),
        "versions": record.get("versions"),
    }


def _string(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)


def _arguments(values: Mapping[str, Any]) -> str:
    return ",".join(f"{key}={_string(value)}" for key, value in values.items())


def _precision(words: Any) -> str | None:
    """kohya's word for ours."""
    return None if words is None else "bf16" if "bf16" in str(words) else "no"


def _seconds(date: Any, *, before: float | None = 0.0) -> str | None:
    """Seconds since 1970, as kohya writes times."""
    try:
        moment = datetime.fromisoformat(str(date).replace("Z", "+00:00"))
    except ValueError:
        return None
    return None if before is None else str(moment.timestamp() - before)


def _size(resolution: Any) -> Sequence[int] | None:
    parts = str(resolution).split("x")
    return [int(part) for part in parts] if len(parts) == 2 and all(part.isdigit() for part in parts) else None

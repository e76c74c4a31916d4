"""What the header of a weights file says, whoever wrote it, as facts with common names. Knows strings; believes none of them.

Read are kohya's words (`ss_*`), the Model Metadata Standard's (`modelspec.*`), ours (`animeflow.*`) and peft's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

# our word -> where it may stand, the first that is there counts
FACTS = {
    "title": ("modelspec.title", "ss_output_name"),
    "description": ("modelspec.description", "ss_training_comment"),
    "trigger": ("animeflow.trigger", "modelspec.trigger_phrase"),
    "author": ("modelspec.author",),
    "licence": ("modelspec.license",),
    "architecture": ("modelspec.architecture", "ss_base_model_version"),
    "base": ("animeflow.base", "ss_sd_model_name"),
    "date": ("modelspec.date",),
    "network module": ("ss_network_module",),
    "rank": ("ss_network_dim",),
    "alpha": ("ss_network_alpha",),
    "steps": ("ss_steps",),
    "epochs": ("ss_epoch",),
    "images seen": ("animeflow.images_seen",),
    "pictures": ("ss_num_train_images",),
    "batch": ("ss_total_batch_size", "ss_batch_size_per_device"),
    "learning rate": ("ss_unet_lr", "ss_learning_rate"),
    "optimizer": ("ss_optimizer", "ss_optimizer_type"),
    "schedule": ("ss_lr_scheduler",),
    "resolution": ("modelspec.resolution", "ss_resolution"),
    "timesteps": ("ss_weighting_scheme", "ss_timestep_sampling"),
    "precision": ("ss_mixed_precision",),
    "seed": ("ss_seed",),
    "recipe": ("animeflow.recipe",),
    "data": ("animeflow.data", "animeflow.manifest_hash"),
    "run": ("animeflow.run",),
    "merged": ("animeflow.merged",),
    "changes": ("animeflow.changes",),
}
NOTHING = ("", "None", "null")
DEEP = 32  # lists in lists: no program writes more, and what prints them is recursive
MOST = 2**53  # how often a tag was seen, at most


def explain(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Facts by common name; none for what the header does not say. JSON is taken apart, numbers stay strings as they were."""
    told: dict[str, Any] = {}
    writer = written_by(metadata)
    if writer:
        told["written by"] = writer
    for fact, keys in FACTS.items():
        value = next((metadata[key] for key in keys if metadata.get(key, "") not in NOTHING), None)
        if value is not None:
            told[fact] = parsed(value)
    if "date" not in told and (date := _date(metadata.get("ss_training_finished_at"))):
        told["date"] = date
    tags = _most_frequent(metadata.get("ss_tag_frequency"))
    return told | ({"tags": tags} if tags else {})


def written_by(metadata: Mapping[str, str]) -> str | None:
    """The program that wrote the file, where its header tells."""
    if any(key.startswith("animeflow.") for key in metadata):
        return "animeflow"
    if "ss_network_module" in metadata or "ss_v2" in metadata:
        return "kohya's sd-scripts, or a program that writes its words"
    if "lora_adapter_metadata" in metadata:
        return "diffusers"
    if "ot_branch" in metadata or any(key.startswith("ot_") for key in metadata):
        return "OneTrainer"
    if "software" in metadata:
        software = parsed(metadata["software"])
        return str(software.get("name", software)) if isinstance(software, dict) else str(software)
    return None


def _most_frequent(text: str | None, *, shown: int = 12) -> dict[str, int]:
    """The tags that were seen most, over all folders."""
    value = parsed(text or "")
    counts: dict[str, int] = {}
    for folder in value.values() if isinstance(value, dict) else ():
        for tag, count in folder.items() if isinstance(folder, dict) else ():
            if isinstance(count, int) and abs(count) < MOST:
                counts[tag.strip()] = counts.get(tag.strip(), 0) + count
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:shown])


def parsed(text: str) -> Any:
    """Objects and lists of JSON; everything else is left alone, and so is what could not be printed or written again."""
    if text[:1] not in ("{", "["):
        return text
    try:
        value = json.loads(text)
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):  # broken, a number of thousands of digits, half a character; too deep
        return text
    return text if _deep(value) else value


def _deep(value: Any) -> bool:
    level = [value]
    for _ in range(DEEP):
        inner = [each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list)]
        level = [each for group in inner for each in group]
    return bool(level)


def _date(seconds: str | None) -> str | None:
    try:
        return datetime.fromtimestamp(float(seconds or ""), UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return None

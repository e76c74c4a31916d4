"""What a run says about itself, kept up to date while it goes on: the one source of every figure in report and model card."""

from __future__ import annotations

import os
import platform
import resource
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..core import files
from ..text.emphasis import plain
from .compose import flat
from .prompts import example_prompts, has_emphasis, positive, sample_size, sampling_options
from .wiring import Workspace, set_of

# What a family says of itself and has a field of its own in the record; the rest is its model settings.
IDENTITY = ("family", "flavour", "shape", "weights", "codec", "text")


class RecordKeeper:
    """A hook that writes `record.json` whenever a checkpoint is due, so that a stopped run can be exported and shown too."""

    name = "record"

    def __init__(
        self, config: Mapping[str, Any], fam: Any, steps: Any, assemble: Any, learn: Mapping[str, Any] | None = None
    ) -> None:
        self.config, self.fam, self.steps, self.assemble = config, fam, steps, assemble
        self.learn = dict(learn or {"kind": "everything"})
        self.every_images = config["train"]["checkpoint_every_images"]

    def __call__(self, trainer: Any) -> Mapping[str, float]:
        if trainer.parallel.is_main and trainer.progress.images_seen:
            record = record_of(self.config, trainer, self.fam, self.steps, self.assemble) | {"learn": self.learn}
            files.write_json(Workspace.of(self.config).run / "record.json", record)
        return {}


def record_of(config: Mapping[str, Any], trainer: Any, fam: Any, steps: Any, assemble: Any) -> dict[str, Any]:
    """What the run says about itself, measured or configured; every figure of report and card comes from here."""
    from ..data.manifest import Manifest

    place, done = Workspace.of(config), trainer.progress
    optimizer = {k: v for k, v in config["optim"].items() if k != "schedule" and v != {}}
    height, width = sample_size(config, assemble.index.buckets("train"))
    buckets = {name: len(uids) for name, uids in sorted(assemble.index.buckets("train").items())}
    seconds = round(done.seconds, 1)
    described = fam.describe()
    shards = set_of(config) / "shards"
    manifest = Manifest.read(shards) if shards.size("manifest.json") is not None else None
    return {
        "name": config["name"],
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "family": fam.name,
        "flavour": fam.flavour,
        "base": os.path.basename(str(config["model"].get("weights") or "random weights")),
        "resolution": f"{width}x{height}",
        "images_seen": done.images_seen,
        "steps": done.step,
        "effective_batch": steps.batch,
        "optimizer": {"name": optimizer.pop("kind"), **optimizer},
        "schedule": dict(config["optim"]["schedule"]),
        "flow": {"recipe": config["recipe"]["kind"], **flat({k: v for k, v in config["recipe"].items() if k != "kind"})},
        "precision": _precision(config),
        "ema": {"sigma_rel": config["train"]["ema"]["use"], "exported": config["export"]["weights"] != "trained"},
        "parts": {"codec": described["codec"], "text": described["text"]},
        "text_encoder": "frozen",
        "model_settings": {key: value for key, value in described.items() if key not in IDENTITY} or None,
        "text": {key: config["model"].get(key) for key in fam.text_settings} | {"variants": config["data"]["cache"]["variants"]},
        "hardware": _hardware(trainer.device.type, trainer.parallel.world),
        "seconds": seconds,
        "device_hours": round(seconds * trainer.parallel.world / 3600, 4),
        "data": _data_record(place, buckets, manifest, assemble.index.uids) | _caption_record(assemble) | _repeats(config),
        "caption_policy": dict(config["text"]),
        "prompts": [_as_caption(config, prompt) for prompt in example_prompts(config, 3)],
        "sampling": sampling_of(config, fam),
        "seed": config["seed"],
        "versions": {name: version(name) for name in ("animeflow", "torch", "diffusers", "transformers", "accelerate")},
        "config_hash": files.sha256(files.canonical(dict(config)))[:32],
        "peak_memory_gib": round(_peak_memory(trainer.device.type), 2),
        "skipped_steps": done.skipped_steps,
        "parameters": numbers(trainer.learner),
    }  # fmt: skip


def _precision(config: Mapping[str, Any]) -> str:
    learn = config.get("learn") or {}
    held = {"bf16": "bf16", "int8": "int8", "nf4": "nf4"}.get(str(learn.get("base_dtype")), "float32")
    weights = f"a base in {held} and float32 additions" if learn.get("kind") == "lora" else "float32 weights"
    if config["train"]["precision"] == "fp32":
        return "float32" if "base" not in weights or held == "float32" else f"float32 over {weights}"
    return f"bf16 autocast over {weights}"


def _repeats(config: Mapping[str, Any]) -> dict[str, Any]:
    """How often the pictures of each concept come in an epoch, where concepts are named, and what else was asked of exposure."""
    named = (config["text"].get("concepts") or {}).keys()
    said = config["data"]["loader"].get("repeats") or {}
    exposure = config["data"]["loader"].get("exposure") or {}
    return ({"repeats": {name: said.get(name, 1) for name in named}} if named else {}) | (
        {"exposure": exposure} if exposure else {}
    )


def numbers(network: Any) -> int:
    """Weights of a network, those in 8 or 4 bits among them, which are no parameters."""
    from ..model.low_bit import low_bit_weights

    return sum(parameter.numel() for parameter in network.parameters()) + low_bit_weights(network)


def sampling_of(config: Mapping[str, Any], fam: Any) -> dict[str, Any]:
    """How the `sample` verb draws from this run unless it is told otherwise; the family's own words where the config has none."""
    from ..sample.settings import SamplingSettings

    node = config["sample"]
    settled = SamplingSettings(**sampling_options(node, fam.defaults)).settled(fam.defaults)
    told: dict[str, Any] = {"solver": settled.solver}
    if settled.steps is None:
        told |= {"rtol": settled.rtol, "atol": settled.atol}
    else:
        told |= {"schedule": settled.schedule, "steps": settled.steps, "shift": settled.shift}
    before = positive(node, fam.defaults)
    return told | {"cfg": settled.cfg, **({"positive": before} if before else {}), "negative": settled.negative}


def _as_caption(config: Mapping[str, Any], prompt: str) -> str:
    """A prompt as the captions of the training would write it: without marks of emphasis, with plain parentheses."""
    return plain(prompt) if has_emphasis(config) else prompt


def _data_record(place: Workspace, buckets: Mapping[str, int], manifest: Any, uids: Sequence[int]) -> dict[str, Any]:
    import numpy as np

    from ..catalogue.table import Catalogue

    scales = [1.0] if manifest is None else manifest.config.get("shard", {}).get("scales", [1.0])
    record: dict[str, Any] = {"images": sum(buckets.values()), "buckets": dict(buckets)}
    if (place.catalogue / "manifest.json").is_file():
        catalogue = Catalogue(place.catalogue)
        # Of the pictures that the set has; a set without their whole size names none of the catalogue's, and tells of all.
        summary = catalogue.counts(np.asarray(uids, np.int64)) if 1.0 in scales else catalogue.summary()
        record |= {f"{k}s": summary[k] for k in ("source", "origin", "rating") if k in summary}
        record["catalogue_hash"] = files.sha256_file(place.catalogue / "catalogue.parquet")[:32]
        rejected: dict[str, int] = {}
        for rejection in catalogue.rejections:
            rejected[rejection.reason] = rejected.get(rejection.reason, 0) + 1
        record["rejected"] = rejected
        record |= _stated(
            place.catalogue / "statement.json", of=files.sha256_file(place.catalogue / "catalogue.parquet")
        )
    if manifest is not None:
        record["manifest_hash"] = manifest.samples
        record["rejected"] = record.get("rejected", {}) | manifest.reasons
        pictures = manifest.found // len(scales)  # it counts a picture at every scale
        record["counts"] = {"catalogue": pictures, "sharded": manifest.written, "train": sum(buckets.values())}
    return record


def _stated(file: Path, *, of: str) -> dict[str, Any]:
    """What `certify` counted, where it looked at this very catalogue; a card says of the others that nobody counted."""
    told = files.read_json(file) if file.is_file() else {}
    if told.get("catalogue") != of:
        return {}
    licences = ", ".join(f"{note or 'no note'}: {count:,}" for note, count in told["licences"].items())
    days = " to ".join(dict.fromkeys(told["snapshot"] or ()))
    facts = {"statement": " ".join(told["statement"]), "licence_note": licences, "snapshot": days or None}
    return facts | {"origins": told["origins"], "reviewed": f"{told['reviewed']:,} of {told['pictures']:,} pictures"}


def _caption_record(assemble: Any, *, shown: int = 6, counted: int = 2000) -> dict[str, Any]:
    """Some captions as the model reads them, and how many lose their end to a text encoder's length."""
    uids = assemble.index.uids
    captions = [text for texts in assemble.index.captions(uids[:counted]).values() for text in texts]
    cut: dict[str, dict[str, int]] = {}
    for caption in dict.fromkeys(captions):
        for encoder, (tokens, kept) in assemble.tower.num_tokens(caption).items():
            row = cut.setdefault(encoder, {"captions": 0, "truncated": 0, "limit": 0})
            row["captions"] += 1
            row["truncated"] += tokens > kept
            row["limit"] = max(row["limit"], kept)
    return {"captions": captions[:: max(1, len(captions) // shown)][:shown], "truncation": cut}


def _hardware(device: str, processes: int) -> str:
    import torch

    if device == "cuda":
        return f"{processes} x {torch.cuda.get_device_name()}"
    return f"{processes} x CPU ({platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads)"


def _peak_memory(device: str) -> float:
    """GiB: of the device where there is one, else of this process."""
    import torch

    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

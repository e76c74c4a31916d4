"""Train, or go on from the newest checkpoint."""

from __future__ import annotations

import logging
import os
import platform
import resource
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from ...core import files
from ...core.errors import ConfigError, DataError
from ...core.log import is_main_process
from ..build import build
from ..compose import compose, flat
from ..prompts import example_prompts, sample_size
from ..weights import TEXT_LENGTHS
from ..wiring import Workspace, assembler, family, loader, optim, recipe, use_threads

log = logging.getLogger(__name__)

# Settings that change what is printed, kept or where it runs, but no weight: a run may be continued with other ones.
FREE = (
    *(
        "train.log",
        "train.checkpoint",
        "train.keep",
        "train.device",
        "train.threads",
        "train.processes",
        "train.resume",
    ),
    *("train.validate", "train.samples", "train.wandb", "sample.", "export.", "evaluate.", "catalogue.", "toonworld."),
    *(
        "data.shard.",
        "data.bucket.",
        "data.codec.",
        "data.cache.batch_size",
        "data.loader.micro_batch",
        "data.loader.preload",
    ),
    *("set", "run"),
)


def run(overrides: Sequence[str], *, dry_run: bool = False) -> None:
    config = compose(overrides)
    use_threads(config["train"]["threads"])
    if dry_run:
        from .plan import describe

        describe(config)
        return
    learn(config)


def learn(config: dict[str, Any], *, fam: Any = None) -> dict[str, Any]:
    """Run the whole of the training; returns the record that was written to the run's folder."""
    from ...data.loader import fixed_batches
    from ...train.hooks import Samples, Validation
    from ...train.tracker import Tracker
    from ...train.trainer import Settings, Trainer
    from ..adherence import Adherence

    place, node = Workspace.of(config), config["train"]
    rank, world = _processes(node["processes"])
    settings = build(Settings, {k: v for k, v in node.items() if k in Settings.__dataclass_fields__}, where="train")
    make_optimizer, schedule = optim(config)
    fam = fam or family(config)
    _require_cache(place, fam.name)
    tower = fam.text_tower()
    steps = loader(config, assembler(config, tower, dropout=True), codec=fam.codec().fingerprint, rank=rank, world=world,
                   pin=node["device"] != "cpu" and _has_cuda())  # fmt: skip
    calm = assembler(config, tower, dropout=False)
    _require_same_pictures(place, calm.index)
    height, width = sample_size(config, calm.index.buckets("train"))
    batches = fixed_batches(calm, "val", images=node["validate"]["images"], micro_batch=steps.micro_batch)
    if not batches:
        log.warning("no picture is held out, so there is no validation loss: raise catalogue.val_share for a small set")
    evaluate = config["evaluate"]
    hooks: list[Any] = [
        Validation(batches, every_images=node["validate"]["every_images"], seed=config["seed"]),
        Samples(fam, example_prompts(config, node["samples"]["count"]), folder=place.samples, height=height, width=width,
                every_images=node["samples"]["every_images"], seed=config["seed"],
                options={k: evaluate[k] for k in ("steps", "cfg", "shift", "batch_size")}),
    ]  # fmt: skip
    if evaluate["oracle"]:
        hooks.append(Adherence(fam, config, folder=place.run, height=height, width=width))
    # A run of constant rate is the same run whatever its length; one that decays towards its end is not.
    free = (*FREE, "train.images") if config["optim"]["schedule"]["kind"] == "constant" else FREE
    identity = {key: value for key, value in flat(config).items() if not key.startswith(free)}
    trainer = Trainer(
        learner=fam.backbone(),
        recipe=recipe(config, patch=fam.patch),
        steps=steps,
        optim=make_optimizer,
        schedule=schedule,
        settings=settings,
        folder=place.run,
        tracker=Tracker(place.run, config=flat(config), wandb=node["wandb"], name=config["name"]),
        hooks=[hook for hook in hooks if not isinstance(hook, Validation) or batches],
        identity=identity | {"cache": calm.index.hash},
    )
    resumed = node["resume"] and trainer.resume()
    if is_main_process():  # after a run of other settings has refused to go on
        files.write_json(place.run / "config.json", config)
    log.info(
        "%s %s: %s images, batch %d = %d processes x %d x %d accumulated, %s, attention %s",
        "going on with" if resumed else "training", place.run, f"{settings.images:,}", steps.batch, world, steps.micro_batch,
        steps.accumulation, settings.precision, _attention(trainer.device.type),
    )  # fmt: skip
    trainer.run()
    trainer.tracker.finish()
    record = _record(config, trainer, fam, steps, calm)
    if is_main_process():
        files.write_json(place.run / "record.json", record)
    return record


def _processes(expected: int | None) -> tuple[int, int]:
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if expected is not None and world != expected:
        raise ConfigError(
            f"{world} processes were started, {expected} expected",
            where="train.processes",
            why="a launcher that falls back to one process would train at an eighth of the speed without a word",
            do=f"accelerate launch --num_processes {expected} scripts/train.py ..., or set train.processes={world}",
        )
    return rank, world


def _require_cache(place: Workspace, name: str) -> None:
    if not (place.cache / name).is_dir():
        raise DataError(
            "there is no cache to train from",
            where=str(place.cache / name),
            do="run 'animeflow cache' with the same settings first",
        )


def _require_same_pictures(place: Workspace, index: Any) -> None:
    """Shards that were cut anew hold other pictures or captions than a cache made before. A cache may also travel alone."""
    from ...data.manifest import Manifest

    if not (place.shards / "manifest.json").is_file():
        return
    if Manifest.read(place.shards).samples != index.manifest["identity"]["shards"]:
        raise DataError(
            "the cache was made from other shards than those that are here now",
            where=str(index.folder),
            why="training would not see what changed since",
            do="run 'animeflow cache' with the same settings: only what changed is encoded",
        )


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def _attention(device: str) -> str:
    """Which attention kernels torch may choose from, named so that a silently slow one is seen."""
    import torch

    if device != "cuda":
        return "torch (CPU)"
    backends = torch.backends.cuda
    allowed = {
        "cudnn": backends.cudnn_sdp_enabled(),
        "flash": backends.flash_sdp_enabled(),
        "efficient": backends.mem_efficient_sdp_enabled(),
    }
    return f"one of {', '.join(name for name, on in allowed.items() if on)}; cuDNN {torch.backends.cudnn.version()}"


def _record(config: Mapping[str, Any], trainer: Any, fam: Any, steps: Any, assemble: Any) -> dict[str, Any]:
    """What the run says about itself, measured or configured; every figure of report and card comes from here."""
    from ...data.manifest import Manifest

    place, done = Workspace.of(config), trainer.progress
    optimizer = {k: v for k, v in config["optim"].items() if k != "schedule"}
    height, width = sample_size(config, assemble.index.buckets("train"))
    buckets = {name: len(uids) for name, uids in sorted(assemble.index.buckets("train").items())}
    seconds = round(done.seconds, 1)
    described = fam.describe()
    manifest = Manifest.read(place.shards) if (place.shards / "manifest.json").is_file() else None
    return {
        "name": config["name"],
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "family": fam.name,
        "flavour": fam.flavour,
        "base": "random weights" if config["model"]["weights"] is None else os.path.basename(str(config["model"]["weights"])),
        "resolution": f"{width}x{height}",
        "images_seen": done.images_seen,
        "steps": done.step,
        "effective_batch": steps.batch,
        "optimizer": {"name": optimizer.pop("kind"), **optimizer},
        "schedule": dict(config["optim"]["schedule"]),
        "flow": {"recipe": config["recipe"]["kind"], **flat({k: v for k, v in config["recipe"].items() if k != "kind"})},
        "precision": "float32" if config["train"]["precision"] == "fp32" else "bf16 autocast over float32 weights",
        "ema": {"half_life_images": config["train"]["ema_half_life_images"], "exported": config["export"]["weights"] == "ema"},
        "parts": {"codec": described["codec"], "text": described["text"]},
        "text_encoder": "frozen",
        "text": {key: config["model"].get(key) for key in TEXT_LENGTHS} | {"variants": config["data"]["cache"]["variants"]},
        "hardware": _hardware(trainer.device.type, trainer.accelerator.num_processes),
        "seconds": seconds,
        "device_hours": round(seconds * trainer.accelerator.num_processes / 3600, 4),
        "data": _data_record(place, buckets, manifest) | _caption_record(assemble),
        "caption_policy": dict(config["text"]),
        "prompts": example_prompts(config, 3),
        "seed": config["seed"],
        "versions": {name: version(name) for name in ("animeflow", "torch", "diffusers", "transformers", "accelerate")},
        "config_hash": files.sha256(files.canonical(dict(config)))[:32],
        "peak_memory_gib": round(_peak_memory(trainer.device.type), 2),
        "skipped_steps": done.skipped_steps,
        "parameters": sum(p.numel() for p in trainer.learner.parameters()),
    }  # fmt: skip


def _data_record(place: Workspace, buckets: Mapping[str, int], manifest: Any) -> dict[str, Any]:
    from ...catalogue.table import Catalogue

    record: dict[str, Any] = {"images": sum(buckets.values()), "buckets": dict(buckets)}
    if (place.catalogue / "manifest.json").is_file():
        catalogue = Catalogue(place.catalogue)
        summary = catalogue.summary()
        record |= {f"{k}s": summary[k] for k in ("source", "origin", "rating") if k in summary}
        record["catalogue_hash"] = files.sha256_file(place.catalogue / "catalogue.parquet")[:32]
        rejected: dict[str, int] = {}
        for rejection in catalogue.rejections:
            rejected[rejection.reason] = rejected.get(rejection.reason, 0) + 1
        record["rejected"] = rejected
    if manifest is not None:
        record["manifest_hash"] = manifest.samples
        record["rejected"] = record.get("rejected", {}) | manifest.reasons
        record["counts"] = {"catalogue": manifest.found, "sharded": manifest.written, "train": sum(buckets.values())}
    return record


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

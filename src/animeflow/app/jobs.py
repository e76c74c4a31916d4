"""From a run's settings to what a benchmark measures of it. Weights that are not on disk are drawn at random: what a step costs
does not depend on them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .learner import add, lora_settings
from .wiring import Config, bucket_plan, family, optim, recipe, train_settings

PARTS = ("weights", "codec", "text")


def job_of(kind: str, config: Config) -> Any:
    """What the benchmark of this kind is given: a job of the run, or the settings themselves."""
    return {"step": step_job, "encode": encode_job}.get(kind, lambda settings: settings)(config)


def step_job(config: Config) -> Any:
    """The optimizer step of one process."""
    from ..bench.job import Job

    settings, load = train_settings(config), config["data"]["loader"]
    fam = family_without_files(config, random_weights=True)
    lora = lora_settings(config)
    images = max(1, load["batch"] // (config["train"]["processes"] or 1))
    return Job(
        family=fam,
        recipe=recipe(config, patch=fam.patch),
        optim=optim(config)[0],
        settings=settings,
        buckets=bucket_plan(config).buckets,
        images=images,
        micro_batch=min(load["micro_batch"], images),
        additions=None if lora is None else lambda module: add(config, fam, module),
        prior=(config["recipe"].get("prior") or {}).get("kind") == "dop",
        seed=config["seed"],
        name=config["name"],
    )


def encode_job(config: Config) -> Any:
    """The codec that the cache is made with."""
    from ..bench.encode import EncodeJob

    return EncodeJob(
        family=family_without_files(config, parts=("weights", "text")),
        buckets=bucket_plan(config).buckets,
        batch=config["data"]["cache"]["batch_size"],
        settings=train_settings(config),
    )


def family_without_files(
    config: Mapping[str, Any], *, parts: Sequence[str] = PARTS, random_weights: bool = False
) -> Any:
    """The family for its sizes: of `parts`, what the settings name and is not on disk is left out."""
    from ..model import registry

    node = dict(config["model"])
    for name in parts:
        if node.get(name) is not None and not Path(str(node[name])).exists():
            node[name] = None
    options = inspect.signature(registry.constructor(node["family"])).parameters
    if random_weights and node.get("weights") is None and "random_weights" in options:
        node["random_weights"] = True
    return family({**config, "model": node})

"""Encode pictures and captions once; only what changed is encoded again."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from functools import partial
from typing import Any

from ...core.engine import Engine
from ..build import build
from ..captioning import keep_bounds
from ..compose import compose
from ..wiring import Workspace, captions, engine, family, use_threads

log = logging.getLogger(__name__)


def run(overrides: Sequence[str], *, dry_run: bool = False) -> None:
    config = compose(overrides)
    use_threads(config["train"]["threads"])
    encode(config, dry_run=dry_run)


def encode(config: dict[str, Any], *, dry_run: bool = False, fam: Any = None) -> Any:
    """The report of this process; started by a launcher, every process takes its part."""
    import torch

    from ...data.cache import build_cache, diff
    from ...data.reader import ShardSet

    place, node = Workspace.to_write(config), dict(config["data"]["cache"])
    fam = fam or family(config)
    shards, out = ShardSet(place.shards), place.cache / fam.name
    policy = captions(config, shards)
    if dry_run:
        found = diff(
            shards, fam.codec(), fam.text_tower(), policy, out=out, seed=config["seed"], variants=node["variants"],
            text_dtype=node["text_dtype"], prior=node.get("prior", False),
        )  # fmt: skip
        log.info(
            "would encode %s latents and %s captions; %s and %s are there",
            *map(
                "{:,}".format, (found.latents_missing, found.texts_missing, found.latents_present, found.texts_present)
            ),
        )
        if found.masks_missing or found.masks_present:
            log.info("and %s masks; %s are there", f"{found.masks_missing:,}", f"{found.masks_present:,}")
        return None
    if "WORLD_SIZE" not in os.environ and (workers := engine(config)).kind == "ray":
        return _in_parts(config, workers)
    keep_bounds(policy, shards, place.set)
    cuda = config["train"]["device"] != "cpu" and torch.cuda.is_available()
    report = build(
        build_cache,
        node,
        where="data.cache",
        shards=shards,
        codec=fam.codec(),
        tower=fam.text_tower(),
        policy=policy,
        out=out,
        seed=config["seed"],
        device=f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if cuda else "cpu",
        rank=int(os.environ.get("RANK", "0")),
        world=int(os.environ.get("WORLD_SIZE", "1")),
        describe=dict(fam.describe()),
    )
    _tell(report)
    return report


def _tell(report: Any) -> None:
    """What was encoded and found, and what is lost of captions and pictures."""
    log.info(
        "cache: %s latents encoded, %s found; %s captions encoded, %s found; %.1f MB in %.1f s",
        *map("{:,}".format, (report.latents_encoded, report.latents_reused, report.texts_encoded, report.texts_reused)),
        report.bytes / 1e6,
        report.seconds,
    )
    if report.masks_encoded or report.masks_reused:
        log.info("cache: %s masks encoded, %s found", f"{report.masks_encoded:,}", f"{report.masks_reused:,}")
    if shortened := report.captions.get("tags", {}).get("shortened"):
        log.info("%s tags were left out so that captions fit", f"{shortened:,}")
    for language, count in report.captions.get("missing_translations", {}).items():
        log.warning("%s tags have no word in '%s' and stay as they are", f"{count:,}", language)
    for encoder, count in report.truncated.items():
        if count:
            log.warning("%s captions are longer than %s takes and lose their end", f"{count:,}", encoder)
    for rejection in report.rejected:
        log.warning("picture %016x is left out: %s", rejection.uid, rejection.reason)


def _in_parts(config: dict[str, Any], workers: Engine) -> list[Any]:
    """Every worker encodes the pictures that are its rank modulo all, as processes of a launcher do. Their reports, by rank."""
    gpus = 0 if config["train"]["device"] == "cpu" else workers.gpus()
    parts = gpus or workers.width()
    with workers.executor(gpus=1 if gpus else 0) as pool:
        return list(pool.map(partial(_part, config, os.getcwd(), parts), range(parts)))


def _part(config: dict[str, Any], folder: str, parts: int, rank: int) -> Any:
    os.chdir(folder)  # paths of a config are those of who asked
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(parts), LOCAL_RANK="0")  # a task of Ray sees its own GPU only
    use_threads(config["train"]["threads"])
    return encode(config)

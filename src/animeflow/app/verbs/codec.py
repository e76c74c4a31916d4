"""Train the small codec that needs no download, on the pictures of the shards."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...core import files
from ...core.errors import ConfigError
from ...image.bucket import Bucket
from ..build import build
from ..compose import compose
from ..wiring import Workspace, use_threads

log = logging.getLogger(__name__)
MADE_FROM = "made_from.json"
ENOUGH = 5000  # pictures, held in memory: more teach so small a codec nothing


def run(overrides: Sequence[str], *, dry_run: bool = False) -> None:
    config = compose(overrides)
    use_threads(config["train"]["threads"])
    learn(config, dry_run=dry_run)


def learn(config: dict[str, Any], *, dry_run: bool = False) -> None:
    from ...data.reader import ShardSet
    from ...model.toon_codec import train_toon_codec

    if config["model"].get("codec") is None:
        raise ConfigError("this model brings a codec of its own", where="model.codec", do="skip this step")
    folder, shards = Path(config["model"]["codec"]), ShardSet(Workspace.of(config).shards)
    made_from = {"codec": dict(config["data"]["codec"]), "seed": config["seed"], "samples": shards.samples_hash}
    if (folder / "config.json").is_file() and _is_current(folder, made_from):
        log.info("codec: %s is there already", folder)
        return
    if dry_run:
        log.info("would train a codec into %s", folder)
        return
    pictures = _pictures(shards)
    codec, _ = build(
        train_toon_codec, config["data"]["codec"], where="data.codec", pictures=pictures, seed=config["seed"]
    )
    codec.save(folder)
    files.write_json(folder / MADE_FROM, made_from)


def _is_current(folder: Path, made_from: dict[str, Any]) -> bool:
    """A codec that was brought here is taken as it is; one made here only while its pictures and settings are the same."""
    known = folder / MADE_FROM
    if not known.is_file() or files.read_json(known) == made_from:
        return True
    log.info("codec: pictures or settings changed since %s was trained, so it is trained again", folder)
    return False


def _pictures(shards: Any) -> list[Any]:
    """The training pictures as uint8 RGB, all cut around their centre to the size that every bucket holds."""
    from ...image.decode import decode

    uids = [uid for uid in shards.uids if shards.split_of(uid) == "train"][:ENOUGH]
    buckets = {Bucket.parse(str(shards.bucket_of(uid))) for uid in uids}
    height, width = min(b.height for b in buckets), min(b.width for b in buckets)
    pictures = []
    for uid in uids:
        pixels = decode(shards.sample(uid).png).pixels
        top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
        pictures.append(pixels[top : top + height, left : left + width])
    return pictures

"""Train the small codec that needs no download, on the pictures of the shards."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...core.errors import ConfigError
from ...image.bucket import Bucket
from ..build import build
from ..compose import compose
from ..wiring import Workspace, use_threads

log = logging.getLogger(__name__)


def run(overrides: Sequence[str], *, dry_run: bool = False) -> None:
    config = compose(overrides)
    use_threads(config["train"]["threads"])
    learn(config, dry_run=dry_run)


def learn(config: dict[str, Any], *, dry_run: bool = False) -> None:
    from ...data.reader import ShardSet
    from ...model.toon_codec import train_toon_codec

    folder = config["model"]["codec"]
    if folder is None:
        raise ConfigError("this model brings a codec of its own", where="model.codec", do="skip this step")
    if (Path(folder) / "config.json").is_file():
        log.info("codec: %s is there already", folder)
        return
    if dry_run:
        log.info("would train a codec into %s", folder)
        return
    pictures = _pictures(ShardSet(Workspace.of(config).shards))
    codec, _ = build(
        train_toon_codec, config["data"]["codec"], where="data.codec", pictures=pictures, seed=config["seed"]
    )
    codec.save(folder)


def _pictures(shards: Any) -> list[Any]:
    """The training pictures as uint8 RGB, all cut around their centre to the size that every bucket holds."""
    from ...image.decode import decode

    uids = [uid for uid in shards.uids if shards.split_of(uid) == "train"]
    buckets = {Bucket.parse(str(shards.bucket_of(uid))) for uid in uids}
    height, width = min(b.height for b in buckets), min(b.width for b in buckets)
    pictures = []
    for uid in uids:
        pixels = decode(shards.sample(uid).png).pixels
        top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
        pictures.append(pixels[top : top + height, left : left + width])
    return pictures

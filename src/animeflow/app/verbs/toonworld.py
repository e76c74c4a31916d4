"""Draw pictures with known truth into a folder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..build import build
from ..compose import compose

log = logging.getLogger(__name__)

OF_THE_FOLDER = ("folder", "count", "workers", "start", "sidecars")  # the others decide what a picture shows


def run(overrides: Sequence[str], *, dry_run: bool = False) -> None:
    draw(compose(overrides), dry_run=dry_run)


def draw(config: dict[str, Any], *, dry_run: bool = False) -> None:
    from ...toonworld.dataset import World, write_dataset
    from ...toonworld.planted import KINDS, NAME, plant

    node = dict(config["toonworld"])
    folder, each = Path(node["folder"]), node.pop("planted", 0)
    if dry_run:
        log.info("would draw up to %s pictures into %s", f"{node['count']:,}", folder)
        return
    drawn = build(write_dataset, node, where="toonworld")
    log.info("toonworld: %s of %s pictures were new, in %s", f"{drawn:,}", f"{node['count']:,}", folder)
    if each or (folder / NAME).is_file():
        settings = {name: value for name, value in node.items() if name not in OF_THE_FOLDER}
        plant(folder, build(World, settings, where="toonworld"), count=node["count"], each=each)
        log.info(
            "planted %d pictures that a set should not have: %d of each of %s",
            each * len(KINDS),
            each,
            ", ".join(KINDS),
        )

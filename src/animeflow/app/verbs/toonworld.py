"""Draw pictures with known truth into a folder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..build import build
from ..compose import compose

log = logging.getLogger(__name__)


def run(overrides: Sequence[str], *, dry_run: bool = False) -> None:
    draw(compose(overrides), dry_run=dry_run)


def draw(config: dict[str, Any], *, dry_run: bool = False) -> None:
    from ...toonworld.dataset import write_dataset

    node = dict(config["toonworld"])
    folder = Path(node["folder"])
    if dry_run:
        log.info("would draw up to %s pictures into %s", f"{node['count']:,}", folder)
        return
    drawn = build(write_dataset, node, where="toonworld")
    log.info("toonworld: %s of %s pictures were new, in %s", f"{drawn:,}", f"{node['count']:,}", folder)

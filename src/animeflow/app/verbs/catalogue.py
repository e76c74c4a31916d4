"""Read a source into the catalogue and say what was rejected and why."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from ...core.errors import ConfigError
from ..build import build
from ..compose import compose
from ..wiring import Workspace, source

log = logging.getLogger(__name__)


def run(overrides: Sequence[str], *, dry_run: bool = False) -> None:
    collect(compose(overrides), dry_run=dry_run)


def collect(config: dict[str, Any], *, dry_run: bool = False) -> Any:
    """The report of what was found, added, known and rejected."""
    from ...catalogue.ingest import ingest
    from ...catalogue.table import Catalogue
    from ...image.picture import Limits
    from ...text.blocklist import Blocklist

    node, place = config["catalogue"], Workspace.to_write(config)
    limits = build(Limits, node["limits"], where="catalogue.limits")
    if not isinstance(node["blocklist"], list):
        raise ConfigError(
            f"{node['blocklist']!r} is not a list of tags",
            where="catalogue.blocklist",
            do="write [one_tag,another_tag]",
        )
    blocklist = Blocklist.default().with_tags(node["blocklist"])
    pictures = source(config)
    if dry_run:
        log.info("would read %s into %s (%d candidates)", pictures.root, place.catalogue, sum(1 for _ in pictures))
        return None
    catalogue = Catalogue(place.catalogue)
    report = ingest(
        catalogue,
        pictures,
        workers=node["workers"],
        limits=limits,
        val_share=node["val_share"],
        blocklist=blocklist,
    )
    for line in report.lines():
        log.info("%s", line)
    if report.rejected:
        log.info("every rejected file with its reason: %s", place.catalogue / "rejected.jsonl")
    return report

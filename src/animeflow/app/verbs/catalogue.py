"""Read a source into the catalogue and say what was rejected and why."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Sequence
from typing import Any

from ...core.errors import ConfigError
from ..build import build
from ..compose import compose
from ..sources import source
from ..tag_database import with_other_names
from ..wiring import Workspace, engine

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
    blocklist = with_other_names(Blocklist.default().with_tags(node["blocklist"]), config)
    workers, pictures = engine(config, workers=node["workers"]), source(config)
    if dry_run:
        log.info("would read %s into %s (%d candidates)", pictures.root, place.catalogue, sum(1 for _ in pictures))
        return None
    catalogue = Catalogue(place.catalogue)
    report = ingest(
        catalogue,
        pictures,
        engine=workers,
        limits=limits,
        val_share=node["val_share"],
        blocklist=blocklist,
        licence=node.get("licence"),
        snapshot=_date(node.get("snapshot")),
        own=own_samples(config),
    )
    for line in report.lines():
        log.info("%s", line)
    if not report.found:
        log.warning("nothing was found in %s: is it the right folder, and the right kind of source?", pictures.root)
    if report.rejected:
        log.info("every rejected file with its reason: %s", place.catalogue / "rejected.jsonl")
    return report


def own_samples(config: dict[str, Any]) -> Any:
    """The pictures that runs of ours drew, where the set refuses them: those of every run beside this one."""
    from ...catalogue.own import OwnSamples

    if (config.get("curate") or {}).get("provenance", {}).get("own", "forbid") != "forbid":
        return None
    return OwnSamples([Workspace.of(config).run.parent])


def _date(value: Any) -> str | None:
    """A day as YYYY-MM-DD. YAML reads an unquoted one as a date."""
    if value is None:
        return None
    try:
        return datetime.date.fromisoformat(str(value)).isoformat()
    except ValueError as error:
        raise ConfigError(
            f"{value!r} is not a day", where="catalogue.snapshot", do="write it like 2026-02-28"
        ) from error

"""Write one page that shows a run."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...core import files
from ...core.errors import DataError
from ..compose import compose, compose_run, flat
from ..wiring import Workspace

log = logging.getLogger(__name__)


def run(overrides: Sequence[str], *, dry_run: bool = False) -> None:
    show(compose_run(overrides), overrides=overrides, dry_run=dry_run)


def show(config: dict[str, Any], *, overrides: Sequence[str] = (), dry_run: bool = False) -> Path | None:
    """The path of the page."""
    from ...evaluate.report import write_report

    place = Workspace.of(config)
    if not (place.run / "metrics.jsonl").is_file():
        raise DataError(
            "this run has no numbers to show", where=str(place.run), do="run 'animeflow train' with the same name first"
        )
    if dry_run:
        log.info("would write %s", place.run / "report.html")
        return None
    command = place.run / "command.json"
    words = files.read_json(command) if command.is_file() else list(overrides)
    preset = flat(compose([word for word in words if word.startswith("experiment=")]))
    page = write_report(place.run, config=flat(config), preset=preset, extra=_price(config, place))
    log.info("report: %s", page)
    return page


def _price(config: dict[str, Any], place: Workspace) -> dict[str, Any]:
    """What the run cost at the price that the user gave, low to high; nothing without one."""
    price, record = config["evaluate"]["price_per_hour"], place.run / "record.json"
    if not price or not record.is_file():
        return {}
    hours = files.read_json(record)["device_hours"]
    return {
        "price": {"low": price[0] * hours, "high": price[1] * hours, "currency": "(your price per device and hour)"}
    }

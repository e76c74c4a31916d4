"""Read lists of tags into one database, and say what was read, what was not, and what contradicts what."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from ...core.log import progress

log = logging.getLogger(__name__)
SHOWN = 10


def run(overrides: Sequence[str] = (), *, files: Sequence[str], out: str, licence: str | None = None) -> None:
    from ...text.importers.build import build

    with progress("files", len(files)) as advance:
        report = build([Path(file) for file in files], Path(out), licence=licence, progress=advance)
    for line in report.lines():
        log.info("%s", line)
    for kind, what in report.conflicts[:SHOWN]:
        log.info("  %s: %s", kind, what)
    log.info("%s %s", "wrote" if report.changed else "nothing new for", out)

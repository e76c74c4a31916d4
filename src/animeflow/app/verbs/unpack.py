"""Take the pictures out of archives, videos and comic pages into a folder that `catalogue` reads."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence
from pathlib import Path

import click

from ...core.errors import DataError
from ...core.log import progress

log = logging.getLogger(__name__)


def run(
    overrides: Sequence[str],
    *,
    files: Sequence[str],
    into: str,
    panels: bool = False,
    all_frames: bool = False,
    licence: str | None = None,
    dry_run: bool = False,
) -> int:
    """Unpack every file; one that cannot be read is told of and the others go on (exit code 2 then)."""
    from ...catalogue.archive.caps import Caps
    from ...catalogue.archive.reader import open_archive
    from ...catalogue.archive.unpack import REFUSED, Unpacking, UnpackReport

    folder, caps = Path(into), Caps()
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file", where="--into", do="give a folder; it is made if missing")
    reports: list[UnpackReport] = []
    failed = 0
    for file in files:
        try:
            archive = open_archive(Path(file), caps, every_frame=all_frames)
            with progress(f"unpack {archive.path.name}", archive.count) as advance:
                unpacking = Unpacking(
                    archive, folder, caps=caps, licence=licence, panels=panels, dry_run=dry_run, advance=advance
                )
                report = unpacking.run()
        except DataError as error:
            click.echo(f"error: {error}", err=True)
            failed += 1
            continue
        reports.append(report)
        click.echo("\n".join(report.lines()))
        if report.broken is not None:
            click.echo(f"error: {report.broken}", err=True)
            failed += 1
    pictures = sum(report.written + report.unchanged for report in reports)
    if dry_run:
        click.echo(f"would write {sum(report.written for report in reports):,} of {pictures:,} pictures into {folder}")
    elif pictures:
        if any(report.refused.total() for report in reports):
            click.echo(f"what was left out, with its reason: {folder / REFUSED}")
        click.echo(f"next: animeflow catalogue name=NAME catalogue=unpacked catalogue.root={shlex.quote(into)}")
    return 2 if failed else 0

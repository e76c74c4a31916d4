"""Look over this machine and say what to mend and how."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import click

from ..doctor.checks import checks, examine, failed
from ..doctor.finding import Finding
from ..doctor.page import Page, as_json, waiting
from ..wiring import use_threads


def run(overrides: Sequence[str], *, json: bool = False, base: str | None = None) -> int:
    """Print what was found; 2 where something has to be mended, else 0."""
    start, found = time.perf_counter(), list[Finding]()
    debug = _debug()
    logging.getLogger("animeflow").setLevel(logging.ERROR)  # what matters is a finding
    use_threads(None)
    page = None if json else Page(debug=debug)
    todo = checks(overrides, base=base)
    groups = examine(todo)
    for check in todo:
        with waiting(check.title):
            _, lines = next(groups)
        found += lines
        for finding in lines:
            if page is not None:
                page.show(finding)
    seconds = time.perf_counter() - start
    if page is None:
        click.echo(as_json(found, seconds, debug=debug))
    else:
        page.close(found, seconds, base=base)
    return 2 if failed(found) else 0


def _debug() -> bool:
    """`--debug` belongs to the command line, not to the verb."""
    context = click.get_current_context(silent=True)
    return bool(context and context.params.get("debug"))

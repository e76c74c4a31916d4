"""How findings are shown: coloured on a terminal, plain lines elsewhere, or JSON. Knows findings; knows no check."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from .finding import ERROR, LEVELS, OK, WARNING, Finding, count

STYLES = {OK: "green", WARNING: "yellow", ERROR: "bold red"}
LEVEL_WIDTH, NAME_WIDTH = 8, 18
EXPLAINED = ("why", "do")


class Page:
    """Prints findings as they come.

    Args:
        debug: show the traceback of a check that broke.
    """

    def __init__(self, *, debug: bool = False) -> None:
        from rich.console import Console

        self.debug = debug
        # rich leaves colour out where NO_COLOR says so; without a terminal lines are never cut or wrapped.
        self.console = Console(soft_wrap=not sys.stdout.isatty(), highlight=False)

    def show(self, finding: Finding) -> None:
        head = f"{finding.level:<{LEVEL_WIDTH}} {finding.name:<{NAME_WIDTH}} "
        if not self.console.is_terminal:
            print(head + finding.what)
            for word in _explained(finding):
                print(f"{'':<{len(head)}}{word}: {getattr(finding, word)}")
        else:
            self._row(finding)
        if self.debug and finding.trace:
            print(finding.trace)

    def close(self, found: Sequence[Finding], seconds: float, *, base: str | None = None) -> None:
        """The last line, and what to do next: with the model that was looked over, or with the one that comes along."""
        print(f"\n{summary(found)} ({seconds:.0f} s)")
        if not any(finding.level == ERROR for finding in found):
            print(
                f"next: animeflow demo, or animeflow lora FOLDER {f'--base {shlex.quote(base)}' if base else '--tiny'}"
            )

    def _row(self, finding: Finding) -> None:
        from rich.table import Table
        from rich.text import Text

        grid = Table.grid(padding=(0, 1), expand=False)
        grid.add_column(width=LEVEL_WIDTH, no_wrap=True)
        grid.add_column(width=NAME_WIDTH, overflow="fold")
        grid.add_column(overflow="fold")
        body = Text(finding.what)
        for word in _explained(finding):
            body.append(f"\n{word}: ", style="dim")
            body.append(str(getattr(finding, word)), style="cyan" if word == "do" else "dim")
        grid.add_row(Text(finding.level, style=STYLES[finding.level]), Text(finding.name), body)
        self.console.print(grid)


def _explained(finding: Finding) -> list[str]:
    return [word for word in EXPLAINED if getattr(finding, word)]


def waiting(title: str) -> AbstractContextManager[Any]:
    """What is being looked at, on a terminal; gone when it is done."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        return nullcontext()
    from rich.console import Console

    return Console(stderr=True).status(f"looking at {title} ...", spinner="dots")


def summary(found: Sequence[Finding]) -> str:
    """`19 ok, 2 warnings, 1 error`."""
    numbers = {level: sum(finding.level == level for finding in found) for level in LEVELS}
    return f"{numbers[OK]} ok, {count(numbers[WARNING], 'warning')}, {count(numbers[ERROR], 'error')}"


def as_json(found: Sequence[Finding], seconds: float, *, debug: bool = False) -> str:
    """The same as data."""
    records = [finding.record() for finding in found]
    for record in records if not debug else []:
        record.pop("trace", None)
    counts = {level: sum(finding.level == level for finding in found) for level in LEVELS}
    told = {"good": counts[ERROR] == 0, "counts": counts, "seconds": round(seconds, 1), "findings": records}
    return json.dumps(told, indent=2, ensure_ascii=False)

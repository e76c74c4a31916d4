"""The plan and the end of a LoRA run on a terminal. Knows rich and rows; decides nothing."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from ...core.errors import ConfigError
from .choose import YOU
from .found import OTHER, Found
from .plan import Row

DROPPED = 6  # that are named one by one


def found(what: Found) -> None:
    """What was found and dropped, and why."""
    console = _console()
    for group in what.groups:
        formats = sorted({seen.format for seen in group.pictures})
        sides = [(seen.width, seen.height) for seen in group.pictures]
        smallest, largest = (pick(sides, key=lambda side: side[0] * side[1]) for pick in (min, max))
        size = f"{smallest[0]}x{smallest[1]}" + (f" to {largest[0]}x{largest[1]}" if largest != smallest else "")
        kind = ("picture" if len(sides) == 1 else "pictures") + (" of the class" if group.regularisation else "")
        console.print(
            f"[bold]{group.root}[/bold]: {len(group.pictures)} {kind}, {', '.join(formats)}, {size}", soft_wrap=True
        )
    others = [str(each.path.relative_to(what.folder)) for each in what.dropped if each.reason == OTHER]
    if others:
        more = f" and {len(others) - DROPPED} more" if len(others) > DROPPED else ""
        console.print(f"  not pictures: {', '.join(others[:DROPPED])}{more}", soft_wrap=True, style="dim", markup=False)
    for reason, count in what.reasons.most_common():
        if reason == OTHER:
            continue
        named = [each for each in what.dropped if each.reason == reason]
        for each in named[:DROPPED]:
            detail = f": {each.detail}" if each.detail else ""
            name = "a picture" if reason == "blocked" else each.path.relative_to(what.folder)
            console.print(
                f"  left out  {name}  {reason.replace('_', ' ')}{detail}", soft_wrap=True, style="dim", markup=False
            )
        if count > DROPPED:
            console.print(f"  left out  {count - DROPPED} more for the same reason", style="dim")
    for note in what.notes:
        console.print(f"  note      {note}", markup=False, soft_wrap=True)


def plan(rows: Sequence[Row], *, title: str) -> None:
    """A table: what, how much, why, and who said it; what the user said is yellow."""
    from rich.table import Table
    from rich.text import Text

    console = _console()
    table = Table(
        title=f"\nplan of {title}",
        title_justify="left",
        title_style="bold",
        box=None,
        padding=(0, 2, 0, 0),
        show_header=False,
    )
    table.add_column(style="bold", max_width=22)
    table.add_column(overflow="fold")
    table.add_column(no_wrap=True, justify="right")
    for row in rows:
        style = "yellow" if row.origin == YOU else ""
        value = Text(row.value, style=style or ("red" if row.warns else ""))
        if row.why:
            value.append(f"  {row.why}" if row.value else row.why, style="dim" if not row.warns else "")
        table.add_row(row.name, value, Text(row.origin, style=style or "dim"))
    console.print(table)


def command(line: str, *, title: str) -> None:
    """One line to copy, never broken by us."""
    console = _console()
    console.print(f"\n[bold]{title}[/bold]")
    console.print(line, soft_wrap=True, markup=False, highlight=False)


def say(text: str, *, style: str = "") -> None:
    _console().print(text, soft_wrap=True, markup=False, highlight=False, style=style)


def files(rows: Sequence[tuple[str, str]]) -> None:
    """Paths and what they are."""
    console = _console()
    width = max(len(name) for name, _ in rows) + 2
    for name, about in rows:
        console.print(f"  {name:<{width}}{about}", soft_wrap=True, markup=False, highlight=False)


def ask(question: str) -> bool:
    """Whether the user says yes; an empty answer is yes. Raises ConfigError where nobody can be asked."""
    if not sys.stdin.isatty():
        raise ConfigError(
            "nobody is there to be asked whether to train",
            where="standard input is no terminal",
            do="say -y to train without a question, or --dry-run to see the plan alone",
        )
    try:
        answer = input(f"\n{question} [Y/n] ").strip().lower()
    except EOFError:
        return False
    return answer in ("", "y", "yes")


def _console():  # type: ignore[no-untyped-def]
    from rich.console import Console

    return Console(highlight=False)


def shortened(path: Path) -> str:
    """A path as one would type it from here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_absolute() and path.is_relative_to(here) else str(path)

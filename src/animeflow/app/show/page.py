"""Facts on a terminal: wrapped to its width and coloured there, plain lines elsewhere. Knows words; knows no fact."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

COLOURS = {"ok": "green", "warning": "yellow", "error": "red"}
NARROW, WIDE = 40, 110


def title(text: str) -> None:
    click.echo(click.style(text, bold=True))


def facts(rows: Mapping[str, Any], *, indent: int = 2) -> None:
    """`name   what is said of it`, names in one column, the other wrapped; what holds texts by name is a list below its name."""
    told = {name: value for name, value in rows.items() if value is not None and words(value) != ""}
    wide = max((len(name) for name in told), default=0) + 2
    for name, value in told.items():
        head = f"{' ' * indent}{name:<{wide}}"
        if isinstance(value, Mapping) and value and all(isinstance(each, str) for each in value.values()):
            click.echo(click.style(head.rstrip(), dim=True))
            facts(value, indent=indent + 2)
        else:
            _wrapped(head, words(value), dim=True)


def lines(rows: Iterable[Any]) -> None:
    """Findings: level, name, what; below it why and what to do, where that is said."""
    every = list(rows)
    wide = max((len(row.name) for row in every), default=0) + 2
    for row in every:
        head = f"{row.level:<9}{row.name:<{wide}}"
        _wrapped(head, row.what, colour=COLOURS.get(row.level))
        for label, text in (("why: ", row.why), ("do:  ", row.do)):
            if text:
                _wrapped(" " * 9 + label, text)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, indent: int = 2) -> None:
    """Columns as wide as they need to be; the last is not padded, and wrapped on a terminal."""
    every = [list(head), *[list(row) for row in rows]]
    wide = [max(len(row[i]) for row in every) for i in range(len(head))]
    for number, row in enumerate(every):
        *cells, last = (cell.ljust(width) for cell, width in zip(row, wide, strict=True))
        before = "".join(f"{cell}  " for cell in cells)
        if number and last.strip():
            _wrapped(" " * indent + before, last.rstrip())
        else:
            click.echo(" " * indent + click.style((before + last).rstrip(), dim=number == 0))


def words(value: Any) -> str:
    """A value as a person writes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {words(item)}" for key, item in value.items() if item is not None)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(words(item) for item in value)
    return str(value)


def size(count: float) -> str:
    """Bytes as a person reads them."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


def count(number: int, noun: str) -> str:
    """`1 tensor`, `2 tensors`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def hints(texts: Iterable[str]) -> None:
    """What a person may want to type next."""
    for text in texts:
        click.echo(f"  {click.style('try', dim=True)}  {text}")


def _wrapped(head: str, text: str, *, colour: str | None = None, dim: bool = False) -> None:
    shown = click.style(head, fg=colour, dim=dim) if colour or dim else head
    if not sys.stdout.isatty():
        click.echo(shown + " ".join(text.splitlines()))
        return
    room = max(NARROW, min(WIDE, shutil.get_terminal_size().columns) - len(head))
    first, *others = textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False) or [""]
    click.echo(shown + first)
    for line in others:
        click.echo(" " * len(head) + line)

"""Count the set's pictures per character, series, artist or tag; name those that are short."""

from __future__ import annotations

import json as jsons
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ..compose import compose
from ..curation import selection
from ..show import page

SHOWN, BAR = 40, 40


def run(
    overrides: Sequence[str],
    *,
    by: str = "character",
    least: int = 200,
    against: str | None = None,
    top: int | None = None,
    json: bool = False,
) -> None:
    from ...curate.coverage import coverage, read_list

    listed = read_list(Path(against), by=by, top=top) if against else None
    chosen = selection(compose(overrides))
    found = coverage(chosen, by=by, least=least, against=listed)
    if json:
        facts = found.as_dict() | {"query": chosen.query.name, "hash": chosen.query.hash, "pictures": len(chosen)}
        click.echo(jsons.dumps(facts, indent=2, ensure_ascii=False))
        return
    page.title(
        f"{page.count(len(found.counts), by + ' name')} on {page.count(len(chosen), 'picture')} of query {chosen.query.name}"
    )
    _histogram(found)
    named = len(listed) if listed is not None else len(found.counts)
    click.echo(f"{found.covered:,} of {named:,} names have {least:,} pictures or more")
    page.facts({name: f"{share:.1%}" for name, share in found.shares().items()})
    _short(found)


def _histogram(found: Any) -> None:
    """Names by how many pictures they have; the line of what is enough is marked."""
    rows = found.histogram()
    most = max((count for _, _, count in rows), default=0) or 1
    heads = [f"{low:,} to {top:,}" if top else f"{low:,} and more" for low, top, _ in rows]
    wide = max(map(len, heads))
    for head, (low, top, count) in zip(heads, rows, strict=True):
        mark = (
            f" <- enough from {found.least:,} on" if low <= found.least and (top is None or found.least <= top) else ""
        )
        click.echo(f"  {head:>{wide}}  {'█' * round(BAR * count / most):<{BAR}} {count:,}{mark}")


def _short(found: Any) -> None:
    short = list(found.short.items())
    if not short:
        return
    elsewhere = found.against is not None
    head = [found.by, "pictures", "short by", *(["elsewhere"] if elsewhere else [])]
    rows = [
        [name, f"{count:,}", f"{found.least - count:,}", *([f"{found.against[name]:,}"] if elsewhere else [])]
        for name, count in short[:SHOWN]
    ]
    page.table(head, rows)
    if len(short) > SHOWN:
        click.echo(f"  and {len(short) - SHOWN:,} more: --json names them all")

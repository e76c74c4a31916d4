"""List words that mean several tags, by class, those of the most frequent tags first: what a person should look at."""

from __future__ import annotations

import csv
import io
import json as jsons
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...core.errors import ConfigError
from ...core.files import write_text

if TYPE_CHECKING:
    from ...text.settle import Proposal

SHOWN = 12
COLUMNS = ("tag", "language", "surface", "reviewed", "pictures", "also means")


def run(overrides: Sequence[str] = (), *, database: str, json: bool = False, propose: str | None = None) -> None:
    from ...text.ambiguity import CLASSES
    from ...text.database import TagDatabase

    known = TagDatabase.open(database)
    if propose is not None:
        _propose(known.proposals(), Path(propose), database)
        return
    counts = {name: count or 0 for name, _, count in known.names()}
    found = sorted(
        known.ambiguities(), key=lambda each: (each[1], -max(counts.get(name, 0) for name in each[2]), each[0])
    )
    if json:
        rows = [{"word": word, "class": n, "tags": tags, "reviewed": reviewed} for word, n, tags, reviewed in found]
        click.echo(jsons.dumps(rows, indent=1, ensure_ascii=False))
        return
    by_class: dict[int, list[tuple[str, list[str], bool]]] = defaultdict(list)
    for word, number, tags, reviewed in found:
        by_class[number].append((word, tags, reviewed))
    for number, meaning in CLASSES.items():
        left = [(word, tags) for word, tags, reviewed in by_class[number] if not reviewed]
        click.echo(f"class {number}, {meaning}: {len(left):,} left, {len(by_class[number]) - len(left):,} reviewed")
        for word, tags in left[:SHOWN]:
            click.echo(f"  {word}: {', '.join(tags[:6])}{', ...' if len(tags) > 6 else ''}")
    click.echo(
        "not used for captions until a table with tag,language,surface,reviewed says which is right: docs/tags.md"
    )


def _propose(found: list[Proposal], out: Path, database: str) -> None:
    """A table for a person, those of frequent tags first: what `tags build` reads, and beside it what one decides by."""
    if os.path.lexists(out):
        raise ConfigError(
            f"there is a file {out}", where="--propose", do="give another name: it may hold what somebody decided"
        )
    if not found:
        click.echo("no word may be settled by frequency, so no table was written: docs/tags.md says which may")
        return
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(COLUMNS)
    for each in sorted(found, key=lambda each: (each.language, -each.count, each.word)):
        others = " ".join(f"{name} ({count:,})" for name, count in each.others)
        rows.writerow((each.tag, each.language, each.word, "yes", each.count, others))
    write_text(out, table.getvalue())
    click.echo(
        f"{len(found):,} words in {out}: take out the lines that are wrong, then: animeflow tags build {out} --out {database}"
    )

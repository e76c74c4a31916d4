"""List words that mean several tags, by class, those of the most frequent tags first: what a person should look at."""

from __future__ import annotations

import json as jsons
from collections import defaultdict
from collections.abc import Sequence

import click

SHOWN = 12


def run(overrides: Sequence[str] = (), *, database: str, json: bool = False) -> None:
    from ...text.ambiguity import CLASSES
    from ...text.database import TagDatabase

    known = TagDatabase.open(database)
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

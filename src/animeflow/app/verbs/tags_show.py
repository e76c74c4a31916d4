"""Say all that is known of a word in any language: the tags it may mean, and all that each of them is called."""

from __future__ import annotations

import json as jsons
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from ...core.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from ...text.database import TagDatabase


def run(overrides: Sequence[str] = (), *, word: str, database: str, json: bool = False) -> None:
    from ...text.database import TagDatabase

    found = TagDatabase.open(database)
    facts = describe(found, word)
    if json:
        click.echo(jsons.dumps(facts, indent=1, ensure_ascii=False))
        return
    for number, tags in found.meanings(word):
        click.echo(f"ambiguous, class {number}: {', '.join(tags)}")
    for tag in facts["tags"]:
        count = "" if tag["count"] is None else f", {tag['count']:,} pictures"
        click.echo(f"{tag['name']}: {tag['category']}{count}{', deprecated' if tag['deprecated'] else ''}")
        click.echo(
            f"  as {tag['match']['kind']} in {tag['match']['language']}, confidence {tag['match']['confidence']:g}"
        )
        if tag["implies"]:
            click.echo(f"  implies {', '.join(tag['implies'])}")
        for each in tag["words"]:
            marks = "".join(f", {name}" for name in ("ambiguous", "reviewed") if each[name])
            click.echo(
                f"  {each['language']} {each['kind']}: {each['word']} ({each['confidence']:g}, {each['source']}{marks})"
            )


def describe(database: TagDatabase, word: str) -> dict[str, Any]:
    """Facts of a word. Raises ConfigError for one that is not known; a forbidden one is not told from it by name."""
    matches = database.resolve(word)
    if not matches:
        if database.is_blocked(word):
            raise ConfigError("this word is forbidden, and nothing of it is shown", where="WORD")
        near = did_you_mean(word.replace(" ", "_"), (name for name, _, _ in database.names()))
        raise ConfigError(f"'{word}' is not known{near}", where="WORD", do="give a tag or any of its other names")
    tags = [
        {
            "name": match.name,
            "category": match.category,
            "count": match.count,
            "deprecated": database.is_deprecated(match.name),
            "match": {"kind": match.kind, "language": match.language, "confidence": match.confidence},
            "implies": sorted(database.implied(match.name)),
            "words": [
                {**each, "source": each["source"] or "its list"}
                for each in database.words(match.name)
                if each["kind"] != "canonical"
            ],
        }
        for match in matches
    ]
    ambiguous = [{"class": number, "tags": names} for number, names in database.meanings(word)]
    return {"word": word, "tags": tags, "ambiguous": ambiguous}

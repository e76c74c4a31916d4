"""List faults of tags: those of a database, or of a set's catalogue and prompts where settings name them."""

from __future__ import annotations

import json as jsons
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from ...core.errors import ConfigError
from ..compose import compose
from ..wiring import Workspace

TEXT_PARTS = ("tokenizers", "text", "weights")  # settings of a family that name folders with its tokenizers


def run(overrides: Sequence[str] = (), *, database: str, json: bool = False, tokenizer: str | None = None) -> None:
    from ...text.database import TagDatabase
    from ...text.importers.build import forbidden
    from ...text.lint import lint_prompts, lint_tags

    known = TagDatabase.open(database)
    config = compose(overrides) if overrides else None
    unread = _unread(config, tokenizer)
    if config is None:
        parts = {
            "tags": lint_tags(((name, kind, count or 0) for name, kind, count in known.names()), known, unread=unread)
        }
    else:
        parts = {"tags": lint_tags(catalogue_tags(config), known, unread=unread)}
    if config is not None and config["sample"]["prompts"]:
        from ..prompts import typed_prompts

        sign = str(config["text"].get("artist_prefix") or "")
        parts["prompts"] = lint_prompts(typed_prompts(config, 0), known, artist_sign=sign, unread=unread)
    if json:
        facts: dict[str, Any] = {name: lint.to_json() for name, lint in parts.items()}
        click.echo(jsons.dumps({**facts, "forbidden_words": known.forbidden_words()}, indent=1, ensure_ascii=False))
        return
    for name, lint in parts.items():
        click.echo(f"{name}:")
        for line in lint.lines():
            click.echo(f"  {line}")
    click.echo(f"of the database: {forbidden(known.forbidden_words())}")
    if unread is None:
        click.echo("signs were not checked: give --tokenizer FOLDER, or model.text of a family on disk")


def catalogue_tags(config: Mapping[str, Any]) -> Iterator[tuple[str, str, int]]:
    """(name, category, pictures) of all tags of the set, the most frequent first. Raises ConfigError where there is none."""
    from ...catalogue.table import Catalogue

    folder = Workspace.of(config).catalogue
    if not folder.is_dir():
        raise ConfigError("there is no catalogue here", where=str(folder), do="make it first: animeflow catalogue")
    counts: Counter[tuple[str, str]] = Counter()
    for post in Catalogue(folder).iterate():
        counts.update((name, category) for category, names in post.tags.items() for name in names)
    yield from ((name, category, count) for (name, category), count in counts.most_common())


def _unread(config: Mapping[str, Any] | None, folder: str | None) -> Callable[[str], list[str]] | None:
    """What the tokenizer of a folder, else of the config's family, cannot read; None where there is no tokenizer on disk."""
    from ...model.unread import PLACES, unread

    if folder is not None:
        return unread(folder)
    named = [(config or {}).get("model", {}).get(part) for part in TEXT_PARTS]
    for name in filter(None, named):
        if any((Path(str(name)) / place / "tokenizer.json").is_file() for place in PLACES):
            return unread(str(name))
    return None

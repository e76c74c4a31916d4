"""Print a prompt in canonical tags, and what became of every part of it."""

from __future__ import annotations

import json as jsons
from collections.abc import Sequence

import click

from ..compose import compose
from ..tag_database import tag_database


def run(overrides: Sequence[str] = (), *, prompt: str, language: str = "auto", json: bool = False) -> None:
    from ...text.normalise import normalise

    config = compose(overrides)
    database = tag_database(config, wanted_by="text.database")
    reading = normalise(
        prompt, database, language=language, where="--language", emphasis=bool(config["sample"].get("prompt_weights"))
    )
    if json:
        click.echo(jsons.dumps(reading.to_json(), indent=1, ensure_ascii=False))
        return
    click.echo(reading.text)
    for line in reading.lines():
        click.echo(f"  {line}", err=True)

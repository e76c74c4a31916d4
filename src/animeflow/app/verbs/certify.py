"""Print what is known of where the pictures of a set are from, for its model card; fail where evidence is missing."""

from __future__ import annotations

import json as jsons
import logging
from collections.abc import Sequence

import click

from ...core import files
from ...core.errors import DataError
from ..compose import compose
from ..curation import refused, requirements, selection
from ..show import page
from ..wiring import Workspace

log = logging.getLogger(__name__)


def run(overrides: Sequence[str], *, json: bool = False) -> int:
    """The exit code: 0 where the set has all that is required of it, 1 where evidence is missing, after the statement."""
    from ...curate.statement import insist, statement_of

    config = compose(overrides)
    place, found = Workspace.of(config), statement_of(selection(config), require=requirements(config))
    facts = found.as_dict() | {
        "catalogue": files.sha256_file(place.catalogue / "catalogue.parquet"),
        "refused": refused(config),
        "statement": found.sentences(),
    }
    if json:
        click.echo(jsons.dumps(facts, indent=2, ensure_ascii=False))
    else:
        _print(facts)
    try:
        insist(found)
    except DataError as error:  # nothing is written of a set that lacks what was required
        click.echo(f"error: {error}", err=True)
        return 1
    files.write_json(place.catalogue / "statement.json", facts)
    return 0


def _print(facts: dict) -> None:
    page.title("Where these pictures are from")
    for sentence in facts["statement"]:
        click.echo(f"  {sentence}")
    click.echo()
    page.facts(
        {
            "by source": facts["sources"],
            "by licence": {note or "(no note)": count for note, count in facts["licences"].items()},
            "by generator": facts["generators"],
            "by rating": facts["ratings"],
            "refused when catalogued": facts["refused"],
            "query": f"{facts['selection']['name']}, version {facts['selection']['version']}, {facts['selection']['hash']}",
            "catalogue": facts["catalogue"][:32],
        }
    )

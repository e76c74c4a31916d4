"""Say which pictures the set will have, step by step, with counts; write nothing."""

from __future__ import annotations

import json as jsons
import shlex
from collections.abc import Sequence
from typing import Any

import click

from ..compose import compose
from ..curation import refused, selection
from ..show import page
from ..wiring import Workspace


def run(overrides: Sequence[str], *, why: str | None = None, json: bool = False, dry_run: bool = False) -> None:
    config = compose(overrides)
    chosen = selection(config)
    if why is not None:
        from ...curate.find import find

        ((uid, sha, path),) = find(Workspace.of(config).catalogue, [why])
        told = {"path": path, "sha256": sha, "why": chosen.why(uid)}
        click.echo(jsons.dumps(told, indent=2, ensure_ascii=False) if json else f"{path}: {told['why']}")
        return
    if json:
        facts = chosen.as_dict() | {"refused": refused(config)}
        click.echo(jsons.dumps(facts, indent=2, ensure_ascii=False))
        return
    _print(config, chosen, overrides)


def _print(config: dict[str, Any], chosen: Any, overrides: Sequence[str]) -> None:
    query = chosen.query
    page.title(f"query {query.name}, version {query.version} ({query.hash})")
    if gone := refused(config):
        told = ", ".join(f"{reason} {count:,}" for reason, count in gone.items())
        page.facts({"refused when catalogued": f"{told}; listed in rejected.jsonl"})
    rows, left = [], chosen.total
    for step in chosen.steps:
        count = chosen.counts[step.name]
        left -= count["dropped"] + count["kept"]
        setting = f" ({step.setting})" if step.setting else ""
        approved = f"; approved by {step.approved_by}" if step.approved_by else ""
        about = f"{step.what}: {step.why}{approved} [{step.of}{setting}]"
        rows.append([step.name, f"{count['dropped']:,}", f"{count['kept']:,}", f"{left:,}", " ".join(about.split())])
    page.table(["step", "out", "in", "left", "what"], rows)
    kept, gone_now = len(chosen), chosen.total - len(chosen)
    click.echo(f"{chosen.total:,} pictures = {kept:,} in + {gone_now:,} out")
    facts: dict[str, Any] = {"made of": {name: f"version {number}" for name, number in query.includes.items()}}
    facts["comes as often as"] = ", ".join(f"{origin} x {weight:g}" for origin, weight in query.weights().items())
    facts["validation"] = (
        "versions and copies of a drawing on one side" if query.splits == "groups" else "each picture by itself"
    )
    page.facts({name: value for name, value in facts.items() if value})
    if gone_now:
        same = [shlex.quote(word) for word in overrides]  # of another query it would tell something else
        page.hints([" ".join(["animeflow filter", *same, "--why PICTURE"])])

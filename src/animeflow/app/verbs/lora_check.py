"""Say whether a LoRA file is whole and what is odd about it."""

from __future__ import annotations

import json as jsons
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...core.errors import DataError
from .. import lora_file
from ..base_family import base_family
from ..show import page

if TYPE_CHECKING:
    from ...learn.check import Audit
    from ...learn.finding import Finding

log = logging.getLogger(__name__)


def run(
    overrides: Sequence[str] = (),
    *,
    file: str,
    base: str | None = None,
    family: str | None = None,
    json: bool = False,
) -> int:
    """0 for a sound file, 2 for one that is not."""
    if not Path(file).exists():
        lora_file.read(file, family)  # says so
    try:
        facts, found = examine(file, base=base, family=family)
    except DataError as error:
        facts, found = {"file": file}, _refused(Path(file), error)
    if json:
        from ...learn.check import report

        click.echo(jsons.dumps(report(found, **facts), indent=2, ensure_ascii=False))
    else:
        _print(file, facts, found)
    return 0 if found.sound else 2


def examine(file: str, *, base: str | None, family: str | None) -> tuple[dict[str, Any], Audit]:
    """Facts of the file and the audit. Raises DataError for one that cannot be read as a LoRA at all."""
    from ...learn.check import audit
    from ...learn.explain import explain

    found = lora_file.read(file, family)
    shapes = weights = None
    if base is not None:
        fam = base_family(base, found.family)
        outline = fam.outline()
        named = outline.export_state()
        shapes = {name: tuple(named[f"{name}.weight"].shape) for name in fam.lora_layers(outline)}
        log.info("reading the base, for |W|")
        weights = fam.backbone().export_state()
    result = audit(
        found.state,
        dialects=lora_file.dialects(found.family),
        dialect=found.dialect,
        tensors=_tensors(found.path),
        shapes=shapes,
        weights=weights,
    )
    told = explain(found.metadata)
    facts = {"file": file, "family": found.family, "dialect": found.dialect, "trigger": told.get("trigger")}
    return facts, result


def _tensors(path: Path) -> dict[str, Any]:
    """Under the names of the file; of a folder, of the one file in it."""
    from ...model.tensor_file import read_tensors

    if path.is_dir():
        path = next(iter(sorted(path.glob("*.safetensors"))), path)
    return read_tensors(path)


def _refused(path: Path, error: DataError) -> Audit:
    """What can be said of a file whose keys are no LoRA's, or not all of them."""
    from ...learn.check import Audit
    from ...learn.file_audit import audit_tensors, not_finite
    from ...learn.finding import ERROR, Finding, listed

    findings: list[Finding] = [Finding("file", ERROR, error.what, error.why, error.do)]
    try:
        tensors = _tensors(path)
    except (DataError, OSError):
        return Audit(tuple(findings), {})
    broken = not_finite(tensors)
    if broken:
        findings.append(Finding("numbers", ERROR, f"{len(broken)} tensors hold NaN or infinity: {listed(broken)}"))
    return Audit((*findings, *audit_tensors(tensors)), {})


def _print(file: str, facts: dict[str, Any], found: Audit) -> None:
    kind = f": a LoRA for {facts['family']}" if "family" in facts else ""
    page.title(f"{file}{kind}")
    page.lines(found.findings)
    if found.layers:
        click.echo()
        _layers(found)
    levels = [finding.level for finding in found.findings]
    errors, warnings = levels.count("error"), levels.count("warning")
    verdict = "sound" if found.sound else "not sound"
    click.echo(f"{verdict}: {page.count(errors, 'error')}, {page.count(warnings, 'warning')}")


def _layers(found: Audit, *, shown: int = 5) -> None:
    """The layers that change most."""
    told = sorted(found.layers.items(), key=lambda item: -(item[1].share or item[1].norm))
    with_share = any(facts.share is not None for _, facts in told)
    head = ["layer", "rank", "alpha", "scale", "|delta W|", *(["of |W|"] if with_share else [])]
    rows = [
        [name, str(each.rank), f"{each.alpha:g}", f"{each.scale:.4g}", f"{each.norm:.3g}"]
        + ([f"{each.share:.2%}" if each.share is not None else ""] if with_share else [])
        for name, each in told[:shown]
    ]
    page.table(head, rows)
    if len(told) > shown:
        click.echo(f"  and {len(told) - shown} more layers that change less; --json has them all")

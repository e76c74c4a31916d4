"""Write files that ComfyUI and diffusers load, and a model card made from the run's own record."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from ...core import files
from ..averaged import read_average
from ..check import KINDS
from ..compose import compose_run
from ..learner import lora_facts, lora_settings
from ..record import sampling_of
from ..weights import trained_family
from ..wiring import Workspace, use_threads

log = logging.getLogger(__name__)
OF_A_STATE = ("date", "steps", "seconds", "device_hours", "peak_memory_gib")


def run(overrides: Sequence[str], *, dry_run: bool = False) -> None:
    config = compose_run(overrides)
    use_threads(config["train"]["threads"])
    write(config, dry_run=dry_run)


def write(config: dict[str, Any], *, dry_run: bool = False) -> Any:
    """The report of the export."""
    from ...export.export import export
    from ...export.record import RunRecord

    place, node = Workspace.of(config), config["export"]
    additions = lora_settings(config) is not None
    if dry_run:
        wanted = node.get("dialects") or ["a LoRA"] if additions else node["layouts"]
        log.info("would write %s as %s into %s", ", ".join(wanted), node["dtype"], place.export)
        return None
    fam, images = trained_family(config, which=node["weights"])
    saved = files.read_json(place.run / "record.json") if (place.run / "record.json").is_file() else {}
    saved |= _results(place, images)
    if isinstance(saved.get("ema"), dict):
        saved["ema"]["exported"] = node["weights"] != "trained"
        if node["weights"] not in KINDS:  # a file of 'animeflow ema'
            made = read_average(Path(node["weights"]))[1]
            saved["ema"] |= {"sigma_rel": made["sigma_rel"], "made_after_the_run": Path(node["weights"]).name}
    if saved.get("images_seen") != images:  # the run went on without writing a record: its figures are of another state
        saved = {key: value for key, value in saved.items() if key not in OF_A_STATE}
    if additions:
        from ..lora_export import write as write_lora

        told = {
            "images_seen": images,
            "name": config["name"],
            "learn": lora_facts(config, fam),
            "prompts": saved.get("prompts"),
        }
        return write_lora(config, fam, {**saved, **told}, out=place.export)
    known = {field.name for field in fields(RunRecord)}
    facts = {key: value for key, value in saved.items() if key in known}
    facts |= {"name": config["name"], "images_seen": images, "parent": f"checkpoint at {images} images"}
    facts.setdefault("sampling", sampling_of(config, fam))  # a run of before it was recorded
    facts |= {key: node[key] for key in ("licence", "author") if node[key]}
    report = export(
        fam,
        fam.backbone().export_state(),
        place.export,
        layouts=node["layouts"],
        dtype=node["dtype"],
        record=RunRecord(**facts),
    )
    if report.notes:
        log.info("what these files cannot do is written in %s", place.export / "README.md")
    return report


def _results(place: Workspace, images: int) -> dict[str, Any]:
    """Measured figures for the card, where the run measured them."""
    path = place.run / "adherence.json"
    if not path.is_file():
        return {}
    from ...evaluate.adherence import AdherenceReport

    report = AdherenceReport.from_dict(files.read_json(path))
    if report.images_seen != images:
        return {}
    results = {"adherence (mean of attributes, unseen combinations)": report.model.mean, "chance": report.chance_mean}
    results |= {f"adherence: {name}": share for name, share in report.model.accuracy().items()}
    return {"results": {key: round(value, 4) for key, value in results.items() if value is not None}}

"""Make pictures from a run, an export or a diffusers folder."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import ConfigError
from ...core.log import progress
from ..compose import compose_run
from ..prompts import example_prompts, sample_size
from ..weights import exported_family, newest_checkpoint, trained_family
from ..wiring import Workspace, use_threads

if TYPE_CHECKING:
    from ...model.protocol import Family

log = logging.getLogger(__name__)
OPTIONS = (
    *("solver", "steps", "schedule", "cfg", "shift", "eta", "s_noise", "negative", "prompt_weights"),
    *("rtol", "atol", "max_nfe", "batch_size"),
)


def run(overrides: Sequence[str], *, dry_run: bool = False) -> None:
    config = compose_run(overrides)
    use_threads(config["train"]["threads"])
    picture(config, dry_run=dry_run)


def picture(config: dict[str, Any], *, dry_run: bool = False) -> list[Any]:
    """The samples, after writing each as a PNG and all of them as one sheet."""
    from ...sample import png
    from ...sample.generate import generate
    from ...sample.sheet import contact_sheet

    node, place = config["sample"], Workspace.of(config)
    prompts = example_prompts(config, node["count"])
    if not prompts:
        raise ConfigError(
            "there is nothing to draw",
            where="sample.prompts",
            do="for example: 'sample.prompts=[\"1girl, blue hair, smile\"]'",
        )
    if node["source"] == "run":
        newest_checkpoint(config)  # a mistyped name is told before a missing size
    height, width = sample_size(config, buckets(place))
    out = Path(node["out"] or place.run / "pictures")
    if dry_run:
        log.info(
            "would draw %d prompts x %d seeds at %dx%d into %s", len(prompts), len(node["seeds"]), width, height, out
        )
        return []
    if node["source"] == "run":
        fam, _ = trained_family(config, which=node["weights"])
    else:
        fam = exported_family(config, node["source"])
    started = time.perf_counter()
    with progress("pictures", len(prompts) * len(node["seeds"])) as advance:
        samples = generate(
            fam, _with_positive(prompts, node, fam), height=height, width=width, seeds=node["seeds"],
            device=_device(config), progress=advance, **_options(node, fam),
        )  # fmt: skip
    seconds = time.perf_counter() - started
    number = len(node["seeds"])
    for i, sample in enumerate(samples):
        png.save(out / f"{i // number:03d}_{node['seeds'][i % number]}.png", sample.pixels, sample.recipe)
    rows = [[sample.pixels for sample in samples[i : i + number]] for i in range(0, len(samples), number)]
    sheet = contact_sheet(
        rows, row_labels=prompts, column_labels=[f"seed {seed}" for seed in node["seeds"]], title=config["name"]
    )
    png.save(out / "sheet.png", sheet, {"prompts": prompts, "seeds": node["seeds"]})
    nfe = [sample.recipe.get("nfe") for sample in samples]
    known = [n for n in nfe if n is not None]
    log.info(
        "%d pictures in %.1f s%s: %s",
        len(samples),
        seconds,
        f", {math.fsum(known) / len(known):.0f} evaluations each" if known else "",
        out,
    )
    return samples


def _options(node: Mapping[str, Any], family: Family) -> dict[str, Any]:
    """What `generate` is told; a run that was saved before a setting existed has its default."""
    from ...flow.solver import ADAPTIVE

    options = {key: node[key] for key in OPTIONS if key in node}
    if (node["solver"] or family.defaults.solver) in ADAPTIVE:
        options["steps"] = None  # they choose their own steps, so `sample.steps` is for the others
    return options


def _with_positive(prompts: Sequence[str], node: Mapping[str, Any], family: Family) -> list[str]:
    """Prompts with `sample.positive` before them; null is the text that the family's model card advises."""
    text = node.get("positive", "")
    before = family.defaults.positive if text is None else text
    return [", ".join(part for part in (before, prompt) if part) for prompt in prompts]


def _device(config: dict[str, Any]) -> str:
    import torch

    return "cuda" if config["train"]["device"] != "cpu" and torch.cuda.is_available() else "cpu"


def buckets(place: Workspace) -> dict[str, list[int]] | None:
    """Buckets of the set this run was trained on, where it is still there."""
    from ...data.reader import ShardSet

    if not (place.shards / "manifest.json").is_file():
        return None
    shards = ShardSet(place.shards)
    found: dict[str, list[int]] = {}
    for uid in shards.uids:
        found.setdefault(str(shards.bucket_of(uid)), []).append(uid)
    return found

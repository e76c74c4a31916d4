"""Make pictures from a run, an export or a diffusers folder."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import ConfigError
from ...core.log import progress
from ..compose import key_of
from ..loras import add_loras
from ..prompts import positive, sample_size, sampling_options, typed_prompts
from ..source import compose_sample, require_source
from ..tag_database import read_prompts
from ..weights import exported_family, exported_weights, newest_checkpoint, trained_family
from ..wiring import Workspace, use_threads

if TYPE_CHECKING:
    from ...model.protocol import Family

log = logging.getLogger(__name__)


def run(overrides: Sequence[str], *, dry_run: bool = False) -> None:
    config = compose_sample(overrides)
    use_threads(config["train"]["threads"])
    picture(config, dry_run=dry_run, given=[key_of(word) for word in overrides])


def picture(config: dict[str, Any], *, dry_run: bool = False, given: Collection[str] = ()) -> list[Any]:
    """The samples, after writing each as a PNG and all of them as one sheet. `given`: settings that the command line names."""
    from ...sample import png
    from ...sample.generate import generate
    from ...sample.sheet import contact_sheet

    node, place = config["sample"], Workspace.of(config)
    typed = typed_prompts(config, node["count"])
    if not typed:
        raise ConfigError(
            "there is nothing to draw",
            where="sample.prompts",
            do="for example: 'sample.prompts=[\"1girl, blue hair, smile\"]'",
        )
    readings = read_prompts(config, typed)
    prompts = typed if readings is None else [reading.text for reading in readings]
    for reading in readings or ():
        log.info("%s\n  %s", reading.text, "\n  ".join(reading.lines()))
    if node["source"] == "run":
        newest_checkpoint(config)  # a mistyped name is told before a missing size
    else:
        require_source(node["source"])
    height, width = sample_size(config, buckets(place))
    out = Path(node["out"] or place.run / "pictures")
    if dry_run:
        log.info(
            "would draw %d prompts x %d seeds at %dx%d into %s", len(prompts), len(node["seeds"]), width, height, out
        )
        return []
    fam, weights = _weights(config, given)
    started = time.perf_counter()
    with progress("pictures", len(prompts) * len(node["seeds"])) as advance:
        samples = generate(
            fam, _with_positive(prompts, node, fam), height=height, width=width, seeds=node["seeds"], weights=weights,
            batch_size=node["batch_size"], device=_device(config), autocast=_autocast(fam.backbone()), progress=advance,
            **sampling_options(node, fam.defaults),
        )  # fmt: skip
    seconds = time.perf_counter() - started
    for i, reading in enumerate(readings or ()):  # as typed, beside what it was read as
        for sample in samples[i * len(node["seeds"]) : (i + 1) * len(node["seeds"])]:
            sample.recipe["typed"] = {"prompt": reading.typed, "language": reading.language}
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


def _weights(config: Mapping[str, Any], given: Collection[str]) -> tuple[Family, dict[str, Any]]:
    """The family with the weights to sample, and which these are."""
    node = config["sample"]
    if node["source"] != "run":
        fam: Any = exported_family(config, node["source"], given=given)
        weights = exported_weights(config, node["source"])
    else:
        fam, images = trained_family(config, which=node["weights"])
        weights = {"run": config["name"], "images_seen": images, "kind": node["weights"]}
    loras = add_loras(fam, node.get("loras") or ())
    return fam, weights | ({"loras": loras} if loras else {})


def _with_positive(prompts: Sequence[str], node: Mapping[str, Any], family: Family) -> list[str]:
    """Prompts with `sample.positive` before them."""
    before = positive(node, family.defaults)
    return [", ".join(part for part in (before, prompt) if part) for prompt in prompts]


def _autocast(backbone: Any) -> Any:
    """bfloat16 where a part of the weights is stored in it, as the base of a LoRA is: the others are float32."""
    import torch

    return torch.bfloat16 if any(p.dtype == torch.bfloat16 for p in backbone.parameters()) else None


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

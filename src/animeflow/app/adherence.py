"""Adherence while a run goes on and at its end: prompts never seen in training, sampled and read back by the oracle."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core import files
from ..evaluate.adherence import AdherenceReport, measure
from ..evaluate.oracle import Oracle
from ..sample.generate import generate
from ..toonworld.describe import prompt
from ..toonworld.draw import draw
from ..toonworld.words import ATTRIBUTES
from ..toonworld.world import HeldOut
from .prompts import held_out_scenes

log = logging.getLogger(__name__)


class Adherence:
    """A hook of the trainer. At the end of a run it also samples the empty prompt and writes `adherence.json`."""

    name = "adherence"

    def __init__(self, family: Any, config: Mapping[str, Any], *, folder: Path, height: int, width: int) -> None:
        node = config["evaluate"]
        self.family, self.folder, self.height, self.width = family, folder, height, width
        self.every_images, self.seed = node["every_images"], config["seed"]
        self.oracle = Oracle.load(node["oracle"], vocabulary=ATTRIBUTES)
        self.scenes = held_out_scenes(config, node["prompts"])
        self.quick = min(node["quick_prompts"], len(self.scenes))
        self.options = {key: node[key] for key in ("steps", "cfg", "shift", "batch_size")}

    def __call__(self, trainer: Any) -> Mapping[str, float]:
        if not trainer.parallel.asks_for_hooks:
            return {}
        report = self.measure(trainer.learner, trainer.progress.images_seen, final=trainer.finished)
        if not trainer.parallel.is_main:
            return {}
        if trainer.finished:
            files.write_json(self.folder / "adherence.json", report.as_dict())
        mean, chance = report.model.mean or 0.0, report.chance_mean or 0.0
        log.info(
            "adherence at %s images: %.1f %% (chance %.1f %%)",
            f"{trainer.progress.images_seen:,}",
            100 * mean,
            100 * chance,
        )
        return report.metrics()

    def measure(self, backbone: Any, images_seen: int, *, final: bool) -> AdherenceReport:
        """Sample held-out prompts and score them; `final` takes all of them and the empty prompt too."""
        scenes = self.scenes if final else self.scenes[: self.quick]
        seeds = [self.seed + i for i in range(len(scenes))]  # those of the Samples hook, so that the page can show both
        options = {**self.options, "height": self.height, "width": self.width, "backbone": backbone, "pair": True}
        samples = generate(self.family, [prompt(scene) for scene in scenes], seeds=seeds, **options)
        empty = generate(self.family, [""] * len(scenes), seeds=seeds, **options | {"cfg": 1.0}) if final else None
        report = measure(
            self.oracle.read,
            scenes,
            [sample.pixels for sample in samples],
            unconditional=[sample.pixels for sample in empty] if empty else None,
            drawn=[draw(scene, self.height, self.width, layers=False).pixels for scene in scenes],
            images_seen=images_seen,
            held_out=HeldOut(),
            oracle=self.oracle.record["accuracy"],
        )
        for row, scene, seed in zip(report.pictures, scenes, seeds):
            row |= {"prompt": prompt(scene), "seed": seed}
        return report

"""Did the LoRA learn the guest it was given? Asked at the start, where the additions are nothing and the base answers, and at the
end. Only drawn worlds have guests: `evaluate.identity.guest` is null everywhere else."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..core import files
from ..evaluate.identity import IdentityReport, Measured, identity_prompt, measure, scenes_of
from ..evaluate.oracle import Oracle
from ..sample import png
from ..sample.generate import generate
from ..toonworld.describe import prompt
from ..toonworld.words import ATTRIBUTES, FIXED
from ..toonworld.world import guest
from .bases import tiny_oracle
from .prompts import held_out_scenes

log = logging.getLogger(__name__)
SHOWN = 8  # pairs of pictures that are kept for the page


def trigger_of(config: Mapping[str, Any], name: str) -> str:
    """The word that calls the guest: that of the concept of her name, else of the only concept with one, else her name."""
    concepts = config["text"].get("concepts") or {}
    triggers = {key: node.get("trigger") for key, node in concepts.items() if node.get("trigger")}
    if name in triggers:
        return str(triggers[name])
    return str(next(iter(triggers.values()))) if len(triggers) == 1 else name


class Identity:
    """A hook of the trainer: `identity.json` and a few pictures beside it, before and after.

    The answer of the base is written at once, so that a run that is continued does not ask a trained model for it.
    """

    name = "identity"
    every_images = 0  # at the start and at the end

    def __init__(self, family: Any, config: Mapping[str, Any], *, folder: Path, height: int, width: int) -> None:
        node, asked = config["evaluate"], config["evaluate"]["identity"]
        self.family, self.folder, self.size = family, folder, {"height": height, "width": width}
        self.guest, self.seed = guest(asked["guest"]).name, config["seed"]
        self.trigger = trigger_of(config, self.guest)
        self.oracle = Oracle.load(node["oracle"] or tiny_oracle(), vocabulary=ATTRIBUTES)
        self.scenes = scenes_of(self.guest, asked["prompts"], seed=node["seed"])
        self.others = held_out_scenes(config, asked["prompts"])
        self.options = {key: node[key] for key in ("steps", "cfg", "shift", "batch_size")}

    def __call__(self, trainer: Any) -> Mapping[str, float]:
        if not trainer.parallel.asks_for_hooks:
            return {}
        measured, pictures = self.measure(trainer.learner, trainer.progress.images_seen)
        if not trainer.parallel.is_main:
            return {}
        report = self._write(measured, pictures)
        log.info(
            "%s is drawn as she is in %.1f %% of her attributes at %s images%s",
            self.guest,
            100 * measured.identity,
            f"{measured.images_seen:,}",
            "" if report is None or report.lost is None else f"; others lost {100 * report.lost:.1f} points",
        )
        return measured.metrics()

    def measure(self, backbone: Any, images_seen: int) -> tuple[Measured, list[Any]]:
        """Figures of these weights, and the pictures of her."""
        options = {**self.options, **self.size, "backbone": backbone, "pair": True}
        seeds = [self.seed + index for index in range(len(self.scenes))]
        hers = generate(self.family, self._prompts(), seeds=seeds, **options)
        others = generate(self.family, [prompt(scene) for scene in self.others], seeds=seeds, **options)
        measured = measure(
            self.oracle.read,
            self.guest,
            self.scenes,
            [sample.pixels for sample in hers],
            images_seen=images_seen,
            others=self.others,
            other_pictures=[sample.pixels for sample in others],
        )
        return measured, hers

    def _prompts(self) -> list[str]:
        return [identity_prompt(scene, self.trigger) for scene in self.scenes]

    def _write(self, measured: Measured, pictures: list[Any]) -> IdentityReport | None:
        """The report as far as it is known; None where a run began before it was asked for and has no answer of the base."""
        path, when = self.folder / "identity.json", "before" if measured.images_seen == 0 else "after"
        for k, sample in enumerate(pictures[:SHOWN]):
            png.save(self.folder / "identity" / when / f"{k}.png", sample.pixels, sample.recipe)
        if when == "before":
            accuracy = {name: self.oracle.record["accuracy"][name] for name in FIXED}
            report = IdentityReport(self.guest, self.trigger, measured, oracle=accuracy)
        elif path.is_file():
            rows = [
                {"prompt": words, "seed": self.seed + k, **{at: f"identity/{at}/{k}.png" for at in ("before", "after")}}
                for k, words in enumerate(self._prompts()[:SHOWN])
            ]
            known = IdentityReport.from_dict(files.read_json(path))
            report = replace(known, after=measured, pictures=rows)
        else:
            log.warning(
                "what the base drew of %s was not asked when this run began, so there is nothing to compare", self.guest
            )
            return None
        files.write_json(path, report.as_dict())
        return report

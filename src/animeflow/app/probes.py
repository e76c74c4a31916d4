"""What a run on drawn pictures is asked at its end: does it follow every language, does it draw characters in their official style
unless told otherwise. Knows config and the trainer; the figures are counted in `evaluate`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core import files
from ..core.errors import ConfigError
from ..evaluate import official, parity
from ..evaluate.oracle import Oracle
from ..sample.generate import generate
from ..text.script import known_language
from ..text.tags import to_name
from ..toonworld.describe import prompt
from ..toonworld.words import ATTRIBUTES
from .prompts import held_out_scenes
from .tag_database import tag_database

log = logging.getLogger(__name__)


class Probe:
    """Samples prompts of a finished run and reads them with the oracle; a hook that has nothing to say before."""

    every_images = 0  # at the start and at the end

    def __init__(self, family: Any, config: Mapping[str, Any], *, folder: Path, height: int, width: int) -> None:
        node = config["evaluate"]
        self.family, self.folder, self.seed = family, folder, config["seed"]
        self.oracle = Oracle.load(node["oracle"], vocabulary=ATTRIBUTES)
        self.options = {key: node[key] for key in ("steps", "cfg", "shift", "batch_size")}
        self.options |= {"height": height, "width": width, "pair": True}

    def __call__(self, trainer: Any) -> Mapping[str, float]:
        if not trainer.finished or not trainer.parallel.asks_for_hooks:
            return {}
        report = self.measure(trainer.learner, trainer.progress.images_seen)
        if not trainer.parallel.is_main:
            return {}
        self.tell(report)
        found: dict[str, float] = report.metrics()
        return found

    def measure(self, backbone: Any, images_seen: int | None) -> Any:
        raise NotImplementedError

    def tell(self, report: Any) -> None:
        raise NotImplementedError

    def read(self, backbone: Any, prompts: list[str]) -> Any:
        seeds = [self.seed + number for number in range(len(prompts))]
        samples = generate(self.family, prompts, seeds=seeds, backbone=backbone, **self.options)
        return self.oracle.read([sample.pixels for sample in samples])


class Languages(Probe):
    """The same held-out scenes and seeds in every language of `evaluate.languages`; writes `languages.json`."""

    name = "languages"

    def __init__(self, family: Any, config: Mapping[str, Any], **where: Any) -> None:
        super().__init__(family, config, **where)
        named = [known_language(code, where="evaluate.languages") for code in config["evaluate"]["languages"]]
        self.languages = list(dict.fromkeys(["en", *named]))  # English is what the others are compared with
        self.scenes = held_out_scenes(config, config["evaluate"]["prompts"])
        self.words = tag_database(config, wanted_by="evaluate.languages")

    def measure(self, backbone: Any, images_seen: int | None) -> parity.ParityReport:
        asked = {
            language: [self._said(prompt(scene), language) for scene in self.scenes] for language in self.languages
        }
        words = {name: (sum(n for _, n, _ in rows), sum(gone for _, _, gone in rows)) for name, rows in asked.items()}
        readings = {name: self.read(backbone, [text for text, _, _ in rows]) for name, rows in asked.items()}
        shown = {name: rows[0][0] for name, rows in asked.items()}
        return parity.measure(readings, self.scenes, words=words, prompts=shown, images_seen=images_seen)

    def tell(self, report: parity.ParityReport) -> None:
        files.write_json(self.folder / "languages.json", report.as_dict())
        for name, spoken in report.languages.items():
            log.info(
                "told in %s: %.1f %% as asked, %+.1f points from %s (%s); %s of %s tags have no word in it", name,
                100 * (spoken.score.mean or 0.0), 0.0 - spoken.gap, report.reference, spoken.verdict, spoken.missing, spoken.words,
            )  # fmt: skip

    def _said(self, text: str, language: str) -> tuple[str, int, int]:
        """A prompt in a language by the best word of every tag, how many tags there are, and how many have no word."""
        said, missing = [], 0
        for tag in text.split(", "):
            words = [] if language == "en" else self.words.translations(to_name(tag), language)
            missing += language != "en" and not words
            said.append(words[0] if words else tag)
        return ", ".join(said), len(said), missing


class Official(Probe):
    """Prompts of characters alone, and with an artist who is not the official one; writes `official.json`."""

    name = "official"

    def __init__(self, family: Any, config: Mapping[str, Any], **where: Any) -> None:
        super().__init__(family, config, **where)
        self.asked = official.questions(config["evaluate"]["official"])
        self.sign = str(config["text"].get("artist_prefix") or "")

    def measure(self, backbone: Any, images_seen: int | None) -> official.OfficialReport:
        readings = self.read(backbone, [each.prompt(self.sign) for each in self.asked])
        artists = [reading["artist"][0] for reading in readings]
        right = self.oracle.record["accuracy"]["artist"]
        return official.measure(self.asked, artists, images_seen=images_seen, oracle=right)

    def tell(self, report: official.OfficialReport) -> None:
        files.write_json(self.folder / "official.json", report.as_dict())
        log.info(
            "characters without an artist: %.1f %% in the official style; with another artist: %.1f %% in that one's; %s",
            100 * report.default.accuracy,
            100 * report.followed.accuracy,
            "passed" if report.passed else f"each should be {100 * official.LIMIT:.0f} %",
        )


def probes(family: Any, config: Mapping[str, Any], **where: Any) -> list[Probe]:
    """Those that the config asks for. Raises ConfigError where one is asked for that has no oracle to read it."""
    node = config["evaluate"]
    wanted = [kind for kind in (Languages, Official) if node.get(kind.name)]
    if wanted and not node["oracle"]:
        raise ConfigError(
            f"evaluate.{wanted[0].name} is read by an oracle, and there is none",
            where="evaluate.oracle",
            do="give its folder (it reads drawn pictures only), or leave the question out",
        )
    return [kind(family, config, **where) for kind in wanted]

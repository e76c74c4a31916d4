"""The whole path on drawn pictures, from nothing to a report page, by the very verbs that real runs use."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from ...core import files
from ...core.errors import AnimeflowError, ConfigError
from ...evaluate.screening import Screening
from ...model import registry
from .. import wiring
from ..compose import choices, compose, config_folder
from ..curation import selection
from ..screened import planted_account
from ..wiring import Workspace, use_threads

log = logging.getLogger(__name__)
DEMO, SMOKE = "toonworld_tiny", "toonworld_smoke"
PLANTS, FAST_PLANTS = 24, 6  # pictures of each kind that a set should not have, to show that they are found


def run(overrides: Sequence[str], *, fast: bool = False, family: str | None = None) -> None:
    words = _words(family, overrides, fast=fast)
    config = compose(words)
    use_threads(config["train"]["threads"])
    begin = time.perf_counter()
    seconds: dict[str, float] = {}

    def step(title: str, work: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        log.info("=== %s", title)
        result = work()
        seconds[title] = round(time.perf_counter() - started, 1)
        return result

    from . import cache, catalogue, dedup, export, report, sample, shard, toonworld, train

    place = Workspace.of(config)
    step("draw pictures", lambda: toonworld.draw(config))
    step("catalogue", lambda: catalogue.collect(config))
    step("find copies and versions", lambda: dedup.group(config))
    step("look for what was planted", lambda: _screened(config))
    step("shards", lambda: shard.cut(config))
    wanted = {"codec": config["model"].get("codec"), "oracle": config["evaluate"]["oracle"]}
    small_nets = [verb for verb, folder in wanted.items() if folder is not None]
    if small_nets:
        step(" and ".join(small_nets), lambda: _side_by_side(small_nets, words))
    step("codec report", lambda: _codec_report(config))
    fam = wiring.family(config)
    step("cache", lambda: cache.encode(config, fam=fam))
    step("train", lambda: train.learn(config, fam=fam, overrides=words))
    step("export", lambda: export.write(config))
    exported = {**config, "sample": config["sample"] | {"source": str(place.export)}}
    step("sample from the export", lambda: sample.picture(exported))
    if "oracle" in small_nets:
        step("compare solvers", lambda: _compare(exported))
    step("progress sheet", lambda: _progress_sheet(config))
    files.write_json(place.run / "timings.json", seconds)
    page = step("report", lambda: report.show(config, overrides=words))
    log.info("done in %.0f s; the model: %s; the page: %s", time.perf_counter() - begin, place.export, page)


def _words(family: str | None, overrides: Sequence[str], *, fast: bool) -> list[str]:
    """Of the experiment, of the query that takes out what is planted, and of whoever called; a small set is planted with less."""
    words = [f"experiment={experiment(family, fast=fast)}", "curate=toonworld"]
    count = compose([*words, *overrides])["toonworld"]["count"]
    return [*words, f"toonworld.planted={min(FAST_PLANTS if fast else PLANTS, count // 12)}", *overrides]


def experiment(family: str | None, *, fast: bool) -> str:
    """The experiment of a family's demo: `FAMILY_toonworld`, or `FAMILY_toonworld_smoke` when fast. That of the house's first
    family needs no name.

    Raises:
        ConfigError: there is no such family, or it has no such experiment.
    """
    first = SMOKE if fast else DEMO
    if family is None:
        return first
    try:
        registry.cell(family)
    except ConfigError as error:  # an unknown one is told with those that are there
        raise ConfigError(error.what, where="--family", why=error.why, do=error.do) from error
    known, wanted = choices(config_folder(), "experiment"), f"{family}_toonworld{'_smoke' if fast else ''}"
    if wanted in known:
        return wanted
    if compose([f"experiment={first}"])["model"]["family"] == family:
        return first
    raise ConfigError(
        f"{family} has no demo",
        where="--family",
        do=f"write configs/experiment/{wanted}.yaml, with configs/experiment/{first}.yaml as a pattern",
    )


def _side_by_side(verbs: Sequence[str], words: Sequence[str]) -> None:
    """Run verbs as processes of their own with one thread each: two small trainings use two cores better than one after another."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen([sys.executable, "-m", "animeflow.app.cli", verb, *words, "train.threads=1"], env=environment)
        for verb in verbs
    ]
    codes = [process.wait() for process in running]
    for verb, code in zip(verbs, codes):
        if code:
            raise AnimeflowError(
                f"'animeflow {verb}' ended with exit code {code}",
                do=f"run it alone to see why: animeflow {verb} {' '.join(words)}",
            )


def _screened(config: dict[str, Any]) -> None:
    """Count what the screens and the query made of the planted pictures, for the report."""
    account = planted_account(config, selection(config))
    if account is not None:
        files.write_json(Workspace.of(config).run / "screening.json", account)
        for line in Screening.from_dict(account).lines():
            log.info("%s", line)


def _progress_sheet(config: dict[str, Any], *, rows: int = 6) -> None:
    """`progress.png`: a row per prompt, a column per number of images seen; what the README shows."""
    from ...image.decode import decode
    from ...sample import png
    from ...sample.sheet import contact_sheet

    place = Workspace.of(config)
    seen = sorted(int(folder.name) for folder in place.samples.iterdir() if folder.name.isdigit())
    prompts = files.read_json(place.samples / "prompts.json")[:rows]
    pictures = [
        [decode((place.samples / str(images) / f"{i}.png").read_bytes()).pixels for images in seen]
        for i in range(len(prompts))
    ]
    labels = [f"{images:,} images" for images in seen]
    sheet = contact_sheet(pictures, row_labels=prompts, column_labels=labels, cell=160)
    png.save(place.run / "progress.png", sheet, {"prompts": prompts, "images": seen})


def _compare(config: dict[str, Any]) -> None:
    from ..prompts import sample_size
    from ..solvers import compare_solvers
    from ..weights import exported_family
    from .sample import buckets

    height, width = sample_size(config, buckets(Workspace.of(config)))
    exported = exported_family(config, config["sample"]["source"])
    compare_solvers(config, exported, height=height, width=width, count=config["evaluate"]["quick_prompts"] // 2)


def _codec_report(config: dict[str, Any]) -> None:
    """Round trips of pictures that the codec was not trained on, for the report."""
    from ...data.reader import ShardSet
    from ...evaluate.codec_report import measure_codec
    from ...image.decode import decode

    place = Workspace.of(config)
    shards = ShardSet(place.shards)
    uids = [uid for uid in shards.uids if shards.split_of(uid) == "val"][:32]
    found = measure_codec(wiring.family(config).codec(), [decode(shards.sample(uid).png).pixels for uid in uids])
    files.write_json(place.run / "codec.json", found.as_dict())
    log.info("codec: %.2f dB PSNR on %d pictures it never saw", found.psnr, found.pictures)

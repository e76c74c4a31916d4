"""The stages of a LoRA run, one after another, by the functions of the verbs. Knows verbs and folders; knows no setting's value.

Every stage goes on where an earlier run of the same command stopped: nothing is read, cut or encoded twice, training is resumed.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...core import files
from ...core.errors import AnimeflowError, DataError
from .. import wiring
from ..wiring import Workspace, use_threads
from .begun import begun
from .choose import Chosen
from .words import line

log = logging.getLogger(__name__)
WORDS = "lora.words"

Progress = Callable[[str], None]


@dataclass
class Done:
    """What a run left behind.

    Attributes:
        code: 0, or 75 where training was asked to stop and is saved.
        verified: what the second look at the files found, in words.
        seconds: of every stage.
    """

    code: int
    run: Path
    export: Any = None
    verified: Any = None
    report: Path | None = None
    sheet: Path | None = None
    seconds: dict[str, float] = field(default_factory=dict)


def run(chosen: Chosen, *, on_stage: Progress | None = None) -> Done:
    """Everything from the pictures to the report.

    Raises:
        AnimeflowError: a stage cannot do its work; what was begun for nothing is taken away again.
    """
    config: dict[str, Any] = dict(chosen.config)
    use_threads(config["train"]["threads"])
    place = Workspace.of(config)
    done = Done(0, place.run)
    fresh = [folder for folder in (place.set, place.run) if not folder.exists()]

    def stage(title: str, work: Callable[[], Any]) -> Any:
        log.info("=== %s", title)
        if on_stage is not None:
            on_stage(title)
        started = time.perf_counter()
        result = work()
        done.seconds[title] = round(time.perf_counter() - started, 1)
        return result

    from ..verbs import cache, export, report, sample, shard, train

    try:
        stage("read the pictures", lambda: _collect(config, chosen))
        stage("cut them to sizes", lambda: shard.cut(config))
    except AnimeflowError:
        _sweep(fresh)
        raise
    fam = stage("load the base", lambda: wiring.family(config))
    stage("encode pictures and captions", lambda: cache.encode(config, fam=fam))
    if begun(config) is None:
        write_words(place.run, chosen)
    done.code = stage("train", lambda: train.learn(config, fam=fam, overrides=list(chosen.words)))
    write_words(place.run, chosen)  # of a run that goes on only now: the trainer may refuse to
    if done.code:
        return done
    done.export = stage("write the files", lambda: export.write(config))
    done.verified = stage("verify them", lambda: _verify(config, done.export))
    stage("draw with the files", lambda: sample.picture(_with_file(config, done.export, chosen)))
    done.sheet = stage("before and after", lambda: before_and_after(config))
    files.write_json(place.run / "timings.json", done.seconds)
    done.report = stage("report", lambda: report.show(config, overrides=list(chosen.words)))
    return done


def write_words(folder: Path, chosen: Chosen) -> Path:
    """The words of the run, one a line, as `animeflow train @FILE` reads them."""
    path = folder / WORDS
    files.write_text(path, "\n".join([f"# {line(['@' + str(path)])}", *chosen.words]) + "\n")
    return path


def _collect(config: dict[str, Any], chosen: Chosen) -> Any:
    from ..verbs import catalogue

    report = catalogue.collect(config)
    usable = report.added + report.known
    if usable < 2 <= len(chosen.found.pictures):
        raise DataError(
            f"only {usable} of the pictures can be decoded",
            where=str(chosen.found.folder),
            why=", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in report.rejected.most_common()),
            do="replace the broken ones",
        )
    return report


def _verify(config: dict[str, Any], export: Any) -> Any:
    from .verify import verify

    # A family of its own: that of the training has additions on its layers.
    return verify(export.files, family=wiring.family(config), layers=export.layers)


def _with_file(config: dict[str, Any], export: Any, chosen: Chosen) -> dict[str, Any]:
    """Draw with the base and the first of the files, as somebody else would."""
    file = next(iter(export.files.values()))
    return {**config, "sample": config["sample"] | {"source": str(chosen.base.path), "loras": [str(file)]}}


def _sweep(folders: list[Path]) -> None:
    """Take away what was begun by this very run."""
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
        parent = folder.parent
        if parent.is_dir() and not any(parent.iterdir()) and parent.name in ("sets", "runs"):
            parent.rmdir()


def before_and_after(config: dict[str, Any]) -> Path | None:
    """`before_after.png`: a row per prompt, the base beside the LoRA at the same seeds. None where nothing was drawn before."""
    from ...image.decode import decode
    from ...sample import png
    from ...sample.sheet import contact_sheet

    place = Workspace.of(config)
    seen = sorted(int(each.name) for each in place.samples.glob("*") if each.is_dir() and each.name.isdigit())
    if len(seen) < 2:
        return None
    prompts = files.read_json(place.samples / "prompts.json")
    columns = [seen[0], seen[len(seen) // 2], seen[-1]] if len(seen) > 2 else seen
    pictures = [
        [decode((place.samples / str(images) / f"{i}.png").read_bytes()).pixels for images in columns]
        for i in range(len(prompts))
    ]
    labels = ["the base" if images == 0 else f"{images:,} images" for images in columns]
    sheet = contact_sheet(pictures, row_labels=prompts, column_labels=labels, cell=256)
    path = place.run / "before_after.png"
    png.save(path, sheet, {"prompts": prompts, "images": columns})
    return path

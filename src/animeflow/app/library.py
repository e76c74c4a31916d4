"""Training a LoRA from Python in one call: what `animeflow lora` does, without a terminal. Decides nothing of its own.

from animeflow import train_lora

result = train_lora("pictures/eileen", base="models/stable-diffusion-3.5-medium", settings={"learn.rank": 16})
print(result.files["kohya"], result.metrics["val/loss_mid"])
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .lora import end, stages
from .lora.choose import Asked, Chosen
from .lora.job import prepare
from .lora.plan import Row, rows
from .lora.words import word

# A script that calls this need not guard its main module: no process of ours imports it again.
ALONE = {"catalogue.workers": 0, "data.shard.workers": 0}


@dataclass(frozen=True)
class LoraResult:
    """What a finished run left behind.

    Attributes:
        files: dialect -> the file that a program loads; `peft` is a folder. Each was read back and compared with the others.
        report: a page that shows the run.
        run: its folder, with checkpoints, numbers, samples and the model card beside the files.
        words: of the command line that does the same: `animeflow train *words` and the other verbs.
        metrics: the last value of every number, such as `loss` and `val/loss_mid`.
        finished: False where training was asked to stop; the same call goes on. Then there are no files yet.
    """

    files: Mapping[str, Path]
    report: Path | None
    run: Path
    words: Sequence[str]
    metrics: Mapping[str, float]
    finished: bool = True


def plan_lora(
    folder: str | Path,
    *,
    base: str | Path | None = None,
    family: str | None = None,
    tiny: bool = False,
    preset: str | None = None,
    trigger: str | None = None,
    class_word: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> list[Row]:
    """What `train_lora` would do, row by row, each with who said it. Writes nothing. The arguments are those of `train_lora`."""
    return rows(_chosen(Path(folder), base, family, tiny, preset, trigger, class_word, settings))


def train_lora(
    folder: str | Path,
    *,
    base: str | Path | None = None,
    family: str | None = None,
    tiny: bool = False,
    preset: str | None = None,
    trigger: str | None = None,
    class_word: str | None = None,
    settings: Mapping[str, Any] | None = None,
    on_progress: Callable[[str], None] | None = None,
) -> LoraResult:
    """Train a LoRA from the pictures in `folder`, write it in every dialect and verify the files. The same call goes on with a run
    that was stopped.

    Args:
        base: the model to add to, a diffusers folder or a single file; that of the preset unless given.
        family: its family; read from the base unless given.
        tiny: a rehearsal on a CPU with the small base that comes along.
        preset: an experiment of `configs/` to begin with.
        trigger: what the concept will be called; the folder's name unless given.
        class_word: what it is one of, such as `1girl`.
        settings: any settings of a run by their keys, such as `{"learn.rank": 16, "train.images": 2000, "name": "eileen"}`.
        on_progress: called with the title of every stage as it begins.
    Raises:
        ConfigError: a setting or the base cannot be used. DataError: the pictures cannot. Nothing is left behind then.
    """
    chosen = _chosen(Path(folder), base, family, tiny, preset, trigger, class_word, settings)
    rows(chosen)  # refuses what the run would stumble over
    done = stages.run(chosen, on_stage=on_progress)
    return LoraResult(
        files=dict(done.export.files) if done.export is not None else {},
        report=done.report,
        run=done.run,
        words=chosen.words,
        metrics=end.summary(done.run),
        finished=done.code == 0,
    )


def _chosen(
    folder: Path,
    base: str | Path | None,
    family: str | None,
    tiny: bool,
    preset: str | None,
    trigger: str | None,
    class_word: str | None,
    settings: Mapping[str, Any] | None,
) -> Chosen:
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # loading a part takes a moment and is no news
    said = tuple(word(key, value) for key, value in {**ALONE, **(settings or {})}.items())
    return prepare(folder, Asked(None if base is None else str(base), family, tiny, preset, trigger, class_word, said))

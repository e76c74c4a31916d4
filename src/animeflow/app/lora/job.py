"""From a folder and what was asked to a run that is fully described. Knows the order of the questions; writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...core.errors import ConfigError
from .base import find_base
from .choose import Asked, Chosen, choose
from .found import Found
from .scan import LEAST, require_enough, scan
from .words import keys


def prepare(folder: Path, asked: Asked, *, on_found: Callable[[Found], None] | None = None) -> Chosen:
    """Everything that can be known and refused before anything is written. One picture is enough for who says what is held out.

    Raises:
        AnimeflowError: the folder, the base or a setting cannot be used.
    """
    _require_form(asked)
    found = scan(folder)
    if on_found is not None:
        on_found(found)
    least = 1 if "catalogue.val_share" in keys(asked.words) else LEAST
    require_enough(found, least=least)
    base = find_base(base=asked.base, family=asked.family, tiny=asked.tiny, preset=asked.preset)
    chosen = choose(found, base, asked)
    require_enough(chosen.found, least=least)  # without those that are too small
    require_start(chosen.config)
    return chosen


def _require_form(asked: Asked) -> None:
    for word in asked.words:
        if "=" not in word:
            raise ConfigError(
                f"'{word}' is not of the form KEY=VALUE",
                why="one folder is trained on at a time, and options come before or after it",
                do="for example: learn.rank=16; each sub-folder of a folder can be a concept of its own",
            )
    for option, value in (("--trigger", asked.trigger), ("--class", asked.kind)):
        if value is not None and not value.strip():
            raise ConfigError(f"{option} is empty", where=option, do="leave it out, or give a word")


def require_start(config: Mapping[str, Any]) -> None:
    """The LoRA to go on from is whole and of this family, before an hour is spent on the pictures."""
    start = config["learn"].get("start")
    if start is None:
        return
    from ...learn.files import read_lora

    path = Path(str(start))
    if not path.exists():
        raise ConfigError(
            f"there is no LoRA at {path}", where="learn.start", do="give a .safetensors file, or leave it out"
        )
    read_lora(path, family=config["model"]["family"])

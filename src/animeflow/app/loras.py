"""LoRA files that a command line names, each with its weight. Knows words and files; knows no dialect."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..core.errors import ConfigError

log = logging.getLogger(__name__)


def parse(word: str, *, where: str = "sample.loras") -> tuple[Path, float]:
    """`FILE` or `FILE=0.8`. Raises ConfigError where there is no such file or the weight is no number."""
    path, weight = Path(word), 1.0
    name, equals, number = word.rpartition("=")
    if equals and not path.exists():
        try:
            path, weight = Path(name), float(number)
        except ValueError:
            raise ConfigError(
                f"'{number}' is no weight", where=where, do="for example: my_lora.safetensors=0.8"
            ) from None
    if not path.exists():
        raise ConfigError(f"there is no LoRA at {path}", where=where, do="give the path of a .safetensors file")
    return path, weight


def add_loras(fam: Any, words: Sequence[str]) -> dict[str, float]:
    """Add every file to the family's backbone, in place. Returns name -> weight, for the recipe of a picture."""
    from ..learn.files import read_lora
    from ..learn.state import add_to

    added: dict[str, float] = {}
    for word in [words] if isinstance(words, str) else words:
        path, weight = parse(str(word))
        found = read_lora(path, family=fam.name)
        add_to(fam.backbone(), fam, found.state, weight=weight)
        added[path.name] = weight
        log.info("added %s (%s, %d layers) at %g", path.name, found.dialect, len(found.state), weight)
    return added

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


def add_loras(fam: Any, words: Sequence[str]) -> list[dict[str, Any]]:
    """Add every file to the family's backbone, in place. Returns what they are, for the recipe of a picture."""
    from ..learn.files import read_lora
    from ..learn.merge import Weighted
    from ..learn.state import add_to

    parts, told = [], []
    for word in [words] if isinstance(words, str) else words:
        path, weight = parse(str(word))
        found = read_lora(path, family=fam.name)
        tell_text_keys(found)
        parts.append(Weighted(path.name, found.state, weight))
        told.append({"file": path.name, "weight": weight, "sha256": content(path)})
        log.info("added %s (%s, %d layers) at %g", path.name, found.dialect, len(found.state), weight)
    add_to(fam.backbone(), fam, parts)
    return told


def tell_text_keys(found: Any) -> None:
    """Warn of what a file has for text encoders, which are frozen here."""
    if found.text_encoder_keys:
        log.warning(
            "%s: its %d keys for text encoders are left out, %s first",
            found.path.name, len(found.text_encoder_keys), found.text_encoder_keys[0],
        )  # fmt: skip


def content(path: Path) -> str:
    """Hash of a file, or of a folder's files."""
    from ..model.weights import hash_files

    return hash_files([path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file()))

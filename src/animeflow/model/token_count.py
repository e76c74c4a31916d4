"""Tokens of captions by tokenizers that lie on disk, without any encoder. Knows tokenizer folders; knows no family.

Encoders are large and tokenizers are small: what a caption loses its end to can be told long before a model is at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..core.errors import ConfigError
from ..core.files import read_json
from .tokenizers import expect_long_captions

Count = Callable[[str], int]
CONFIG = "tokenizer_config.json"
LONG = "a, " * 2000  # more than any length policy keeps


class Tokenizers:
    """The tokenizers in a folder: of itself, or in the folders that it has.

    Args:
        folder: of one tokenizer, of a diffusers pipeline, or with a folder for each (`clip`, `t5`, `qwen`).

    Attributes:
        found: kind (`clip`, `t5`, `qwen`) -> folder of the tokenizer.

    Raises:
        ConfigError: there is none.
    """

    def __init__(self, folder: str | Path, *, where: str = "--tokenizer") -> None:
        self.folder, self.found = Path(folder), kinds_in(folder)
        self._counts: dict[str, Count] = {}
        if not self.found:
            raise ConfigError(
                f"there is no tokenizer in {folder}",
                where=where,
                do=f"give a folder with {CONFIG}, or one with such folders in it: tokenizer, tokenizer_2, t5, qwen, ...",
            )

    def count(self, encoder: str) -> Count | None:
        """What counts the tokens that an encoder of this name reads, with start and end; None where there is none of its kind."""
        kind = encoder.partition("_")[0]
        if kind not in self._counts and kind in self.found:
            self._counts[kind] = _counter(kind, self.found[kind])
        return self._counts.get(kind)


class Counting:
    """Counts like a text tower: names and length policy are the tower's, tokens those of `tokenizers`, where they have the kind."""

    def __init__(self, tower: Any, tokenizers: Tokenizers) -> None:
        self._tower = tower
        self._limits = {name: kept for name, (_, kept) in tower.num_tokens(LONG).items()}
        counts = {name: tokenizers.count(name) for name in self._limits}
        self._counts = {name: count for name, count in counts.items() if count is not None}

    @property
    def missing(self) -> list[str]:
        """Encoders that the tower still counts for."""
        return [name for name in self._limits if name not in self._counts]

    def num_tokens(self, caption: str) -> Mapping[str, tuple[int, int]]:
        found = dict(self._tower.num_tokens(caption)) if self.missing else {}
        counted = {name: count(caption) for name, count in self._counts.items()}
        found |= {name: (tokens, min(tokens, self._limits[name])) for name, tokens in counted.items()}
        return {name: found[name] for name in self._limits}


def kinds_in(folder: str | Path) -> dict[str, Path]:
    """Kind -> folder of every tokenizer in `folder`; of several of a kind the first by name."""
    found: dict[str, Path] = {}
    home = Path(folder)
    for place in [home, *sorted(path for path in home.glob("*") if path.is_dir())]:
        if (place / CONFIG).is_file():
            name = str(read_json(place / CONFIG).get("tokenizer_class", "")).lower()
            if kind := next((kind for kind in _CLASSES if name.startswith(kind)), None):
                found.setdefault(kind, place)
    return found


_CLASSES = {"clip": "CLIPTokenizer", "t5": "T5TokenizerFast", "qwen": "Qwen2Tokenizer"}


def _counter(kind: str, folder: Path) -> Count:
    import transformers

    tokenizer = getattr(transformers, _CLASSES[kind]).from_pretrained(folder, local_files_only=True)
    expect_long_captions(tokenizer)
    more = tokenizer.num_special_tokens_to_add()
    return lambda text: max(1, len(tokenizer.tokenize(text)) + more)

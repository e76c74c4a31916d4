"""What a text encoder's tokenizer has no token for. Knows tokenizer files; knows no family and no tag."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..core.errors import ConfigError

PLACES = ("", "tokenizer_3", "t5_tokenizer", "t5")  # in the folders that families load
UNKNOWN = ("<unk>", "[UNK]")


def unread(folder: str | Path) -> Callable[[str], list[str]]:
    """A function from a text to its pieces that are read as unknown. One that reads bytes has none.

    Raises:
        ConfigError: there is no `tokenizer.json` in the folder, or in the part of it where pipelines have it.
    """
    from tokenizers import Tokenizer

    files = [Path(folder) / place / "tokenizer.json" for place in PLACES]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        raise ConfigError(
            f"there is no tokenizer in {folder}",
            where="--tokenizer",
            do="give a folder with tokenizer.json, or a pipeline folder with it in one of: " + ", ".join(PLACES[1:]),
        )
    tokenizer = Tokenizer.from_file(str(file))
    unknown = {number for word in UNKNOWN if (number := tokenizer.token_to_id(word)) is not None}

    def pieces(text: str) -> list[str]:
        encoded = tokenizer.encode(text, add_special_tokens=False)
        spans = zip(encoded.ids, encoded.offsets, strict=True)
        return [text[start:stop] for number, (start, stop) in spans if number in unknown]

    return pieces

"""Captions to cached rows of text features. Knows a text tower by its protocol; knows no picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

import torch

from ..core import files
from ..core.errors import DataError
from ..model.protocol import TextTower
from .store import StoreWriter

EMPTY = ""
"""The prompt that joint caption dropout and guidance use. It is in every cache."""


def text_address(caption: str, tower: TextTower) -> str:
    """Address of the row of a caption. The tower's fingerprint holds weights, tokenizers and length policy."""
    return files.address(caption=caption, tower=tower.fingerprint)


def encode_texts(
    captions: Mapping[str, str],
    tower: TextTower,
    writer: StoreWriter,
    *,
    batch_size: int,
    advance: Callable[[int], None],
) -> int:
    """Encode `captions` (address -> text) into `writer`, unpadded, each once. Returns the bytes written.

    Raises:
        DataError: the tower gives numbers that are not finite.
    """
    ordered = sorted(
        captions.items(), key=lambda item: (len(item[1]), item[1])
    )  # equal lengths waste the least padding
    written = 0
    for start in range(0, len(ordered), batch_size):
        part = ordered[start : start + batch_size]
        with torch.no_grad():
            rows = tower.encode([caption for _, caption in part])
        for (address, caption), row in zip(part, rows, strict=True):
            for name, tensor in row.items():
                if not bool(torch.isfinite(tensor.to(torch.bfloat16)).all()):
                    raise DataError(
                        f"the text tower gives '{name}' features that are not finite",
                        where=f"caption {caption[:80]!r}", do="run the text encoders in bf16 or fp32, not fp16",
                    )  # fmt: skip
            written += writer.add(address, row)
        advance(len(part))
    return written


def count_truncated(captions: Iterable[str], tower: TextTower) -> dict[str, int]:
    """How many of the captions lose tokens, per encoder."""
    cut = Counter(dict.fromkeys(tower.encoders, 0))
    for caption in captions:
        cut.update(name for name, (tokens, kept) in tower.num_tokens(caption).items() if tokens > kept)
    return dict(cut)

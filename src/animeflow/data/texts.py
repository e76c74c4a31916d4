"""Captions to cached rows of text features, in bfloat16 or eight bits. Knows a text tower by its protocol; knows no picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from ..core import files
from ..core.errors import ConfigError, DataError, did_you_mean
from ..model.protocol import TextRow, TextTower
from ..text.caption import Fits
from . import rows8
from .store import Store, StoreWriter

EMPTY = ""
"""The prompt that joint caption dropout and guidance use. It is in every cache."""


DTYPES = ("bf16", "int8")
"""How rows are stored: rounded to bfloat16, or in half of that, see `rows8`."""


def row_identity(text_dtype: str) -> dict[str, str]:
    """What the form of the rows adds to an address and to the identity of a cache; nothing for bfloat16.

    Raises:
        ConfigError: there is no such form.
    """
    if text_dtype not in DTYPES:
        raise ConfigError(
            f"unknown dtype of text rows '{text_dtype}'{did_you_mean(text_dtype, DTYPES)}", where="data.cache.text_dtype",
            do=f"choose one of: {', '.join(DTYPES)}",
        )  # fmt: skip
    return {"text_dtype": text_dtype, "rows": rows8.FORMAT} if text_dtype != "bf16" else {}


def text_address(caption: str, tower: TextTower, text_dtype: str = "bf16") -> str:
    """Address of the row of a caption. The tower's fingerprint holds weights, tokenizers and length policy."""
    return files.address(caption=caption, tower=tower.fingerprint, **row_identity(text_dtype))


def stored(row: TextRow, text_dtype: str) -> dict[str, Tensor]:
    """A row as the cache keeps it; `rows8.unpack` is the way back."""
    if text_dtype == "int8":
        return rows8.pack(row)
    return {name: tensor.to(torch.bfloat16) if tensor.is_floating_point() else tensor for name, tensor in row.items()}


def convert_texts(
    captions: Mapping[str, str], tower: TextTower, store: Store, writer: StoreWriter, *, text_dtype: str
) -> tuple[set[str], int]:
    """Write those of `captions` (address -> text) whose row `store` holds in bfloat16: the tower need not see them again.

    Returns their addresses, and the bytes written.
    """
    twins = {address: text_address(text, tower) for address, text in captions.items()} if text_dtype != "bf16" else {}
    lacking, done, written = set(store.missing(twins.values())), set[str](), 0
    for address, twin in twins.items():
        if twin not in lacking:
            written += writer.add(address, stored(store.get(twin), text_dtype))
            done.add(address)
    return done, written


def encode_texts(
    captions: Mapping[str, str],
    tower: TextTower,
    writer: StoreWriter,
    *,
    batch_size: int,
    advance: Callable[[int], None],
    text_dtype: str = "bf16",
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
            written += writer.add(address, stored(row, text_dtype))
        advance(len(part))
    return written


def fitting(tower: TextTower, encoders: Sequence[str]) -> Fits | None:
    """Whether a caption is short enough for those encoders of a tower that a policy names; None where it names none.

    Raises:
        ConfigError: the family has no such encoder.
    """
    for name in encoders:
        if name not in tower.encoders:
            raise ConfigError(
                f"unknown text encoder '{name}'{did_you_mean(name, tower.encoders)}", where="text.fit",
                do=f"this family has: {', '.join(tower.encoders)}",
            )  # fmt: skip

    def fits(caption: str) -> bool:
        tokens = tower.num_tokens(caption)
        return all(tokens[name][0] <= tokens[name][1] for name in encoders)

    return fits if encoders else None


def count_truncated(captions: Iterable[str], tower: TextTower) -> dict[str, int]:
    """How many of the captions lose tokens, per encoder."""
    cut = Counter(dict.fromkeys(tower.encoders, 0))
    for caption in captions:
        cut.update(name for name, (tokens, kept) in tower.num_tokens(caption).items() if tokens > kept)
    return dict(cut)

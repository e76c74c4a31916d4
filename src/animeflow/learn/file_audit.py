"""What the tensors of a LoRA file say under their own names: dtypes, text encoders, joined layers. Knows endings of names that all
programs share; knows no family."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..model.lora_keys import ALPHA, DOWN, UP, of_text_encoder, taken_apart
from .finding import OK, WARNING, Finding, listed

JOINED = 3  # queries, keys and values in one layer
USUAL = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


@dataclass(frozen=True)
class Module:
    """One pair of a file, whatever its names."""

    down: Tensor
    up: Tensor
    alpha: float | None

    @property
    def scale(self) -> float:
        rank = self.down.shape[0]
        return 1.0 if self.alpha is None else self.alpha / rank


def audit_tensors(tensors: Mapping[str, Tensor]) -> Iterator[Finding]:
    """Checks that need no family; they also tell of a file whose keys nobody knows."""
    yield _dtypes(tensors)
    yield from _text(tensors)
    yield from _joined(modules(tensors))


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    return [name for name, each in tensors.items() if each.is_floating_point() and not _finite(each)]


def modules(tensors: Mapping[str, Tensor]) -> dict[str, Module]:
    """Pairs by the name before their ending."""
    parts: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if apart := taken_apart(key):
            parts.setdefault(apart[0], {})[apart[1]] = tensor
    return {
        name: Module(found[DOWN], found[UP], float(found[ALPHA]) if ALPHA in found else None)
        for name, found in parts.items()
        if DOWN in found and UP in found
    }


def _dtypes(tensors: Mapping[str, Tensor]) -> Finding:
    counts = Counter(each.dtype for name, each in tensors.items() if not name.endswith(".alpha"))
    said = ", ".join(f"{count} tensors in {USUAL.get(dtype, str(dtype))}" for dtype, count in counts.most_common())
    unusual = [dtype for dtype in counts if dtype not in USUAL]
    if unusual:
        return Finding(
            "dtype", WARNING, said, why="few programs read a LoRA in anything but fp32, bf16 and fp16",
            do="write it again: animeflow lora convert FILE --to kohya --dtype bf16",
        )  # fmt: skip
    if len(counts) > 1:
        return Finding("dtype", WARNING, said, why="one file usually has one; something has been put together")
    return Finding("dtype", OK, said or "no tensors")


def _text(tensors: Mapping[str, Tensor]) -> Iterator[Finding]:
    found = of_text_encoder(tensors)
    if found:
        yield Finding(
            "text encoders", WARNING, f"{len(found)} keys are for text encoders: {listed(found)}",
            why="animeflow keeps text encoders frozen and does not read these: a file written from this one would lack them",
            do="use the file as it is, in the program that wrote it",
        )  # fmt: skip


def _joined(found: Mapping[str, Module]) -> Iterator[Finding]:
    """A trap of sd-scripts: `split_qkv=True` saves three ranks side by side and leaves alpha, so that it counts a third."""
    joined = {name: each for name, each in found.items() if _block_diagonal(each.up)}
    others = [each.scale for name, each in found.items() if name not in joined]
    if not joined or not others:
        return
    usual = statistics.median(others)
    third = [name for name, each in joined.items() if abs(each.scale * JOINED - usual) <= 1e-4 * abs(usual)]
    if third:
        yield Finding(
            "joined layers", WARNING,
            f"{len(third)} layers of joined queries, keys and values have a third of the others' scale ({usual / JOINED:.4g} "
            f"instead of {usual:.4g})",
            why="sd-scripts' split_qkv saves them with alpha unchanged while the rank becomes three times as high: every program, "
            "also sd-scripts itself, reads a weaker attention than was trained",
            do="if it was trained with split_qkv, multiply alpha of these layers by three",
        )  # fmt: skip
    else:
        yield Finding(
            "joined layers", OK, f"{len(joined)} layers of joined queries, keys and values, at the others' scale"
        )


def _block_diagonal(up: Tensor) -> bool:
    """Whether only the three blocks along the diagonal hold numbers."""
    flat = up.flatten(1)
    rows, rank = flat.shape
    if rows % JOINED or rank % JOINED or rank < 2 * JOINED:
        return False
    blocks = flat.reshape(JOINED, rows // JOINED, JOINED, rank // JOINED).abs().amax(dim=(1, 3)) > 0
    return bool(blocks.diagonal().any()) and not bool((blocks & ~torch.eye(JOINED, dtype=torch.bool)).any())


def _finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor.float()).all())

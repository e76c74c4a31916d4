"""What lies in a GPU's memory during a step, kind by kind, in GiB: counted from parameters and shapes, not measured.

The sum is of the moment when the first micro-batch's activations lie beside all else, which is the most there is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..image.bucket import Bucket

GIB = 2**30
# Bytes of the optimizer per parameter: two float32 moments, or one on the matrices that hold nearly all; two of a byte with two
# scales for every 256; or, of Prodigy, two moments, its own sum and where the parameter began.
MOMENTS = {"adamw": 8, "muon": 4, "adamw8bit": 2 + 8 / 256, "prodigy": 16}
DECODED = 10  # bytes for a number of a weight that is made whole for a product: float32 twice and bf16
# What the compiler keeps of what the eager network keeps: it computes cheap operations again. From a trace of one block of each
# family on the CPU (7.6 of 15.1 GB and 12.5 of 23.6 GB per megapixel); an estimate for CUDA.
COMPILED = 0.52


@dataclass(frozen=True)
class Counted:
    """Numbers of a learner."""

    parameters: int  # frozen ones among them
    trainable: int
    block: int  # of the largest block
    base: int | None = None  # bytes of all that is frozen, tables among it, where not everything is float32
    decoded: int = 0  # of the largest layer whose weight is stored in 8 or 4 bits


@dataclass(frozen=True)
class Activations:
    """What one picture of the largest size leaves for the backward pass, and what autocast copies, in bytes."""

    bucket: Bucket
    picture: float
    copies: float


def activations(fam: Any, buckets: Sequence[Bucket], settings: Any, *, outline: Any = None) -> Activations:
    """Counted on the meta device, at the size with most tokens.

    Args:
        outline: with a LoRA on it; by default the family's own. It is prepared as the settings ask, so this is its last use.

    Raises:
        ConfigError: the network cannot take the longest side of the buckets.
    """
    import torch

    from ..model.activation import keep_activations
    from ..model.activation_size import activation_bytes

    largest = max(buckets, key=lambda bucket: (bucket.pixels, -abs(bucket.log_aspect)))
    longest = max(buckets, key=lambda bucket: max(bucket.height, bucket.width))
    dtype = torch.bfloat16 if settings.precision == "bf16" else None
    outline = outline or fam.outline()
    with torch.no_grad():
        latents, text = _inputs(fam, longest, "meta")
        outline(latents, torch.empty(1, device="meta"), text)
    latents, text = _inputs(fam, largest, "cpu")
    inputs: dict[str, Any] = {
        "latents": tuple(latents.shape),
        "conditioning": text if dtype is None else text.to(dtype=dtype),
        "autocast": dtype,
    }
    whole = activation_bytes(outline, **inputs)
    if settings.activation_memory in ("selective", "full"):
        keep_activations(outline, settings.activation_memory)
        kept = activation_bytes(outline, **inputs)
        # On the way back a block is whole again, one at a time.
        again = (whole.activations - kept.activations) / len(outline.blocks())
        return Activations(largest, kept.activations + again, kept.weights)
    share = settings.activation_budget if settings.activation_memory == "budget" else 1.0
    share *= COMPILED if settings.compile else 1.0
    return Activations(largest, whole.activations * share, whole.weights)


def counted(fam: Any, *, outline: Any = None) -> Counted:
    """Of the backbone, without memory for it; of `outline`, if it is given: that of a family with a LoRA on it."""
    from ..model.low_bit import LowBitLinear

    learner = outline or fam.outline()
    sizes = [(p.numel(), p.requires_grad) for p in learner.parameters()]
    largest: dict[str, int] = {}  # parameters of one block share `name.number.` at the beginning
    for name, parameter in learner.named_parameters():
        block = re.match(r".*?\.\d+\.", name)
        if block:
            largest[block[0]] = largest.get(block[0], 0) + parameter.numel()
    total = sum(size for size, _ in sizes)
    trainable, of_block = sum(size for size, learns in sizes if learns), max(largest.values(), default=total)
    if outline is None:
        return Counted(total, trainable, of_block)
    frozen = [*learner.buffers(), *(p for p in learner.parameters() if not p.requires_grad)]
    low = [m.in_features * m.out_features for m in learner.modules() if isinstance(m, LowBitLinear)]
    return Counted(total, trainable, of_block, sum(tensor.nbytes for tensor in frozen), max(low, default=0))


def by_kind(
    learner: Counted,
    found: Activations,
    *,
    shards: int,
    micro_batch: int,
    optimizer: str,
    averages: int,
    low: bool,
    reserve_gib: float,
) -> dict[str, float]:
    """GiB of one process.

    Args:
        shards: processes that hold one copy together; 1 is a whole copy each.
        low: compute in bf16.
    """
    if learner.base is None:
        weights = {"weights, float32": 4 * learner.parameters / shards}
    else:
        weights = {"frozen base": learner.base / shards, "additions, float32": 4 * learner.trainable / shards}
    kinds = {
        **weights,
        "gradients, float32": 4 * learner.trainable / shards,
        "moments of the optimizer": MOMENTS.get(optimizer, 8) * learner.trainable / shards,
        f"averages, {averages}": 4 * averages * learner.trainable / shards,
    }
    if shards > 1:  # a block is put together while the one before it computes
        kinds["blocks put together"] = 2 * (2 if low else 4) * learner.block
    else:
        kinds["bf16 copy of the weights"] = found.copies
    kinds["a layer made whole"] = DECODED * learner.decoded
    kinds[f"activations of {micro_batch} pictures"] = found.picture * micro_batch
    kinds["reserve"] = reserve_gib * GIB
    return {name: size / GIB for name, size in kinds.items() if size}


def _inputs(fam: Any, bucket: Bucket, device: str) -> tuple[Any, Any]:
    latents, text = fam.random_inputs(1, height=bucket.height, width=bucket.width, tokens=fam.text_tokens)
    return latents.to(device), text.to(device)

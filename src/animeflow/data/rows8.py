"""Text rows in eight bits: int8 with one power of two per token and 16 channels. Knows tensors; knows no tower and no file.

A scale that is a power of two makes every number that is read back exact in bfloat16 (seven bits times a power of two), so packing
what was unpacked changes nothing, and the error is at most half a scale. Blocks are small because text encoders have channels that
are a hundred times their neighbours, and these take the precision of their block. A token of 4096 channels takes 4352 bytes.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

BLOCK = 16
FORMAT = f"int8, a power of two per {BLOCK} channels, v1"
"""What happens to a row. Part of its address: another way, another entry."""

_BIAS, _LOWEST, _HIGHEST = (
    127,
    -126,
    121,
)  # of the exponent as bfloat16 holds it; 127 * 2**121 is below its largest number
_MANTISSA = 127 / 128  # 127 as frexp writes it, times 2**7


def pack(row: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Floating tensors of tokens `[..., D]` become int8, and `NAME/exponent` uint8 `[..., ceil(D / 16)]` beside them. Pooled
    vectors are small and become bfloat16; what is not floating stays."""
    packed: dict[str, Tensor] = {}
    for name, tensor in row.items():
        if tensor.is_floating_point() and tensor.ndim > 1:
            packed[name], packed[_beside(name)] = quantise(tensor)
        else:
            packed[name] = tensor.to(torch.bfloat16) if tensor.is_floating_point() else tensor
    return packed


def unpack(row: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The row in bfloat16 under its own names. A row that was never packed is given back as it is."""
    found = {name: tensor for name, tensor in row.items() if not name.endswith(_beside(""))}
    for name, tensor in found.items():
        if (exponent := row.get(_beside(name))) is not None:
            found[name] = dequantise(tensor, exponent)
    return found


def quantise(x: Tensor) -> tuple[Tensor, Tensor]:
    """`[..., D]` -> int8 `[..., D]` and exponents uint8 `[..., ceil(D / 16)]`. Zeros stay zeros. x is rounded to bfloat16 first,
    as the other kind of cache does, so that its rows can be packed without the tower."""
    blocks = _blocks(x.to(torch.bfloat16).float())
    mantissa, exponent = torch.frexp(blocks.abs().amax(-1, keepdim=True))
    exponent = (exponent - 7 + (mantissa > _MANTISSA)).clamp(
        _LOWEST, _HIGHEST
    )  # the least with |x| <= 127 * 2**exponent
    q = torch.ldexp(blocks, -exponent).round().clamp(-127, 127).to(torch.int8)
    return q.flatten(-2)[..., : x.shape[-1]].contiguous(), (exponent[..., 0] + _BIAS).to(torch.uint8)


def dequantise(q: Tensor, exponent: Tensor) -> Tensor:
    """bfloat16 of the shape of `q`: q * 2**(exponent - 127), exactly."""
    scale = (exponent.to(torch.int32) << 23).view(
        torch.float32
    )  # float32's mantissa of 23 bits, all zero: a power of two
    # By way of float32, which the CPU multiplies twice as fast as bfloat16.
    return (_blocks(q.float()) * scale[..., None]).to(torch.bfloat16).flatten(-2)[..., : q.shape[-1]].contiguous()


def _blocks(x: Tensor) -> Tensor:
    """`[..., D]` -> `[..., blocks, 16]`, zeros after the last channel."""
    return F.pad(x, (0, -x.shape[-1] % BLOCK)).unflatten(-1, (-1, BLOCK))


def _beside(name: str) -> str:
    return f"{name}/exponent"

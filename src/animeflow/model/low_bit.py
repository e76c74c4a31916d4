"""Frozen linear layers kept in 8 or 4 bits, for training additions on small cards. Knows layers; knows no family and no addition.

A layer is made whole again for every product, forward and backward, and thrown away after: what stays is the codes. The
arithmetic is that of the activations, as autocast has it. This is plain torch on purpose: it runs and is tested on a CPU, is
compiled together with the block around it, needs no package, and peft takes the layers for what they are, linear ones.
bitsandbytes' 8-bit layer rounds activations too and keeps its state in the forward pass; its 4-bit one computes what ours does
(a test compares them).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.errors import ConfigError, did_you_mean

Shape = tuple[int, int]
GROUP = 64  # numbers of nf4 that share a scale, as in QLoRA
TAIL = 0.9677083  # where QLoRA begins to cut the normal distribution, so that neither end is infinite
SMALLEST = torch.finfo(torch.float32).tiny  # of a scale: a row of zeros is divided by it


class LowBitLinear(nn.Linear):
    """A frozen linear layer whose weight is codes and scales.

    Attributes:
        codes: int8 `[out, in]`, or uint8 with two 4-bit numbers each.
        scales: float32, by row (int8) or by 64 numbers of the flattened weight (nf4).
        pairs: float32 `[256, 2]`, what a byte of two 4-bit numbers stands for. On the device, since a copy would wait for it.
    """

    codes: Tensor
    scales: Tensor
    pairs: Tensor

    def __init__(self, layer: nn.Linear, kind: str) -> None:
        nn.Module.__init__(self)  # the parent's would make a weight
        self.in_features, self.out_features, self.kind = layer.in_features, layer.out_features, kind
        codes, scales = ENCODE[kind](layer.weight.detach().float())
        self.register_buffer("codes", codes)
        self.register_buffer("scales", scales)
        levels = nf4_levels().to(codes.device)
        self.register_buffer("pairs", torch.cartesian_prod(levels, levels), persistent=False)
        bias = None if layer.bias is None else nn.Parameter(layer.bias.detach(), requires_grad=False)
        self.register_parameter("bias", bias)

    @property
    def _shape(self) -> Shape:
        return self.out_features, self.in_features

    def dequantize(self) -> Tensor:
        """The weight as it computes, float32, made anew at every call. By this name and `W_q` peft knows layers that have to be
        asked for their weight, as DoRA does."""
        return _decoded(self.codes, self.scales, self.pairs, self.kind, self._shape)

    @property
    def W_q(self) -> Tensor:
        return self.codes

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """Of the weight's shape, type and device, and no number: those are asked for some twenty times while peft attaches."""
        return torch.full((), torch.nan, device=self.scales.device).expand(self._shape)

    def forward(self, input: Tensor) -> Tensor:
        device, dtype = input.device.type, input.dtype
        if device != "meta" and torch.is_autocast_enabled(
            device
        ):  # what only counts has no autocast, and asking is an error
            dtype = torch.get_autocast_dtype(device)
        bias = None if self.bias is None else self.bias.to(dtype)
        packed = (self.codes, self.scales, self.pairs, self.kind, self._shape)
        product: Tensor = _Product.apply(input.to(dtype), bias, *packed)
        return product

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> LowBitLinear:
        scales, pairs = self.scales, self.pairs
        super()._apply(fn, recurse)
        # They move, but a change of dtype is for weights.
        self.scales, self.pairs = scales.to(self.scales.device), pairs.to(self.pairs.device)
        return self

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, kind={self.kind}"


def quantise(module: nn.Module, layers: Iterable[str], kind: str) -> int:
    """Put `LowBitLinear` in the place of the named linear layers, in place. Before low-rank additions are attached: they take the
    new layers as any others. The weights themselves are gone then, from `state_dict` too. Returns how many layers.

    Args:
        layers: names of modules.
        kind: "int8" (a scale for every row) or "nf4" (QLoRA's, arXiv 2305.14314, without its second quantisation).

    Raises:
        ConfigError: an unknown kind.
        ValueError: what bears a name is no plain linear layer.
    """
    if kind not in ENCODE:
        raise ConfigError(
            f"unknown storage '{kind}'{did_you_mean(kind, ENCODE)}",
            where="learn.base_dtype",
            do=f"choose one of: {', '.join(ENCODE)}; fp32 and bf16 need no conversion",
        )
    count = 0
    for name in layers:
        layer = module.get_submodule(name)
        if type(layer) is not nn.Linear:
            raise ValueError(f"{name} is a {type(layer).__name__}, not a plain linear layer")
        module.set_submodule(name, LowBitLinear(layer, kind))
        count += 1
    return count


class _Product(torch.autograd.Function):
    """x W^T + b where W does not learn. Torch's own would hold the decoded weight of every layer until its backward pass."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, bias: Tensor | None, codes: Tensor, scales: Tensor, pairs: Tensor, kind: str, shape: Shape
    ) -> Tensor:
        ctx.save_for_backward(codes, scales, pairs)
        ctx.kind, ctx.shape = kind, shape
        return F.linear(x, _decoded(codes, scales, pairs, kind, shape).to(x.dtype), bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        codes, scales, pairs = ctx.saved_tensors
        weight = _decoded(codes, scales, pairs, ctx.kind, ctx.shape).to(grad.dtype)
        return grad @ weight, None, None, None, None, None, None


def nf4_levels() -> Tensor:
    """The 16 levels of NormalFloat: equally likely values of a normal distribution, seven below 0, 0, eight above, within +-1."""
    above = torch.special.ndtri(torch.linspace(TAIL, 0.5, 9, dtype=torch.float64))[:-1]
    below = -torch.special.ndtri(torch.linspace(TAIL, 0.5, 8, dtype=torch.float64))[:-1]
    levels = torch.cat([below, torch.zeros(1, dtype=torch.float64), above]).sort().values
    return (levels / levels.abs().max()).float()


def _to_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    scales = weight.abs().amax(1, keepdim=True).clamp(min=SMALLEST) / 127
    return (weight / scales).round().clamp(-127, 127).to(torch.int8), scales


def _to_nf4(weight: Tensor) -> tuple[Tensor, Tensor]:
    groups = F.pad(weight.flatten(), (0, -weight.numel() % GROUP)).view(-1, GROUP)
    scales = groups.abs().amax(1, keepdim=True).clamp(min=SMALLEST)
    levels = nf4_levels().to(weight.device)
    codes = torch.bucketize(groups / scales, (levels[1:] + levels[:-1]) / 2).to(torch.uint8).flatten()
    return codes[0::2] * 16 + codes[1::2], scales


def _decoded(codes: Tensor, scales: Tensor, pairs: Tensor, kind: str, shape: Shape) -> Tensor:
    if codes.is_meta:
        return scales.new_empty(shape)  # whoever only counts need not wait for the steps below
    if kind == "int8":
        return codes * scales
    flat = (F.embedding(codes.int(), pairs).view(-1, GROUP) * scales).flatten()
    return flat[: shape[0] * shape[1]].view(shape)


ENCODE: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {"int8": _to_int8, "nf4": _to_nf4}


def is_low_bit(module: nn.Module) -> bool:
    """Whether this layer's weight is codes."""
    return isinstance(module, LowBitLinear)


def low_bit_weights(network: nn.Module) -> int:
    """Weights that are codes, and so no parameters."""
    return sum(m.in_features * m.out_features for m in network.modules() if isinstance(m, LowBitLinear))

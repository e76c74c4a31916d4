"""How many bytes stay for the backward pass, counted without a GPU and without the numbers. Knows tensors; knows no family.

The forward pass runs on torch's meta device, where tensors have shapes and no contents. What is still alive afterwards is what
the backward pass holds, whoever holds it. It also proves that nothing in the forward pass waits for a GPU: the value of a tensor
that has none cannot be asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from ..core.conditioning import Conditioning
from ..core.errors import ConfigError

# CUDA's autocast, for the operations that our networks have (torch's documentation, "Autocast Op Reference").
LOWERED = frozenset({"linear", "matmul", "__matmul__", "bmm", "mm", "addmm", "baddbmm", "conv2d", "conv3d"})
WIDENED = frozenset({"layer_norm", "group_norm", "pow", "__pow__", "rsqrt", "softmax", "sum", "norm", "exp", "log"})


@dataclass(frozen=True)
class Kept:
    """Bytes after a forward pass.

    Attributes:
        activations: what the backward pass holds because of the pictures; grows with their number.
        weights: copies of weights in another dtype that autocast made; the same for any number of pictures.
    """

    activations: int
    weights: int


def activation_bytes(
    backbone: nn.Module,
    *,
    latents: tuple[int, int, int, int],
    conditioning: Conditioning,
    autocast: torch.dtype | None = torch.bfloat16,
) -> Kept:
    """What stays of one forward pass over latents of that shape `[B, C, h, w]`, eager, with fused attention.

    Args:
        backbone: on the meta device, in the dtype that it computes in; as `keep_activations` left it.
        conditioning: of as many rows; only its shapes and dtypes matter, wherever it lies.
        autocast: the dtype of CUDA's autocast, or None where the weights themselves are in the dtype of the arithmetic.

    Raises:
        ConfigError: a weight is not on the meta device.
    """
    held = dict((*backbone.named_parameters(), *backbone.named_buffers()))
    real = [name for name, tensor in held.items() if tensor.device.type != "meta"]
    if real:
        raise ConfigError(
            f"activations are counted on the meta device, and '{real[0]}' is on {held[real[0]].device}",
            do="build the network under torch.device('meta')",
        )
    x_BChw = torch.empty(latents, device="meta")
    t_B = torch.empty(latents[0], device="meta")
    cond = Conditioning({name: torch.empty_like(tensor, device="meta") for name, tensor in conditioning.items()})
    made, cast = _Made(), _Autocast(autocast, weights=held.values())
    given = {_key(tensor) for tensor in (*held.values(), x_BChw, t_B, *cond.values())}
    with ExitStack() as modes:
        modes.enter_context(made)
        modes.enter_context(cast)
        velocity = backbone(x_BChw, t_B, cond)
    copies = {_key(tensor) for tensor in cast.copies.values()}
    cast.copies.clear()  # autocast drops its own hold on them at its end
    output = {_key(velocity)}
    alive = made.alive()
    weights = sum(size for key, size in alive.items() if key in copies)
    activations = sum(size for key, size in alive.items() if key not in copies | given | output)
    return Kept(activations, weights)


class _Made(TorchDispatchMode):
    """Remembers every piece of memory that an operation made, without keeping it."""

    def __init__(self) -> None:
        super().__init__()
        self._made: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                reference = StorageWeakRef(storage)
                self._made[reference.cdata] = (reference, storage.nbytes())
        return result

    def alive(self) -> dict[int, int]:
        return {key: size for key, (reference, size) in self._made.items() if not reference.expired()}


class _Autocast(TorchFunctionMode):
    """CUDA's autocast on the meta device, which has none, and its fused attention, which the meta device would not choose."""

    def __init__(self, dtype: torch.dtype | None, *, weights: Iterable[Tensor]) -> None:
        super().__init__()
        self._dtype = dtype
        self._weights = {id(tensor) for tensor in weights}
        self.copies: dict[int, Tensor] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            query, key, value = (args + tuple(kwargs[name] for name in ("query", "key", "value") if name in kwargs))[:3]
            return _attention(self._lowered(query), self._lowered(key), self._lowered(value))
        name = getattr(func, "__name__", "")
        if self._dtype is not None and name in LOWERED | WIDENED:
            change = self._lowered if name in LOWERED else _widened
            args, kwargs = tree_map(change, args), tree_map(change, kwargs)
        return func(*args, **kwargs)

    def _lowered(self, value: Any) -> Any:
        if not isinstance(value, Tensor) or value.dtype != torch.float32 or self._dtype is None:
            return value
        if id(value) not in self._weights:
            return value.to(self._dtype)
        if id(value) not in self.copies:  # autocast casts a weight once and keeps the copy
            self.copies[id(value)] = value.to(self._dtype)
        return self.copies[id(value)]


def _widened(value: Any) -> Any:
    low = isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16)
    return value.float() if low else value


def _attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Keeps q, k, v, its result, and one float32 per query and head, as every fused kernel does. A mask is not among what grows."""
    return torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, 0.0, False)[0]


def _key(tensor: Tensor) -> int:
    return StorageWeakRef(tensor.untyped_storage()).cdata

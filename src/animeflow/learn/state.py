"""The low-rank additions of a network as plain tensors, and back. Knows peft's layers; knows no file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ..core.errors import ConfigError, DataError
from ..model.low_bit import is_low_bit
from ..model.low_rank import LowRank, LowRankState
from ..model.protocol import Family
from .attach import NAME, lora_modules
from .merge import Weighted, changes


def lora_state(backbone: nn.Module, family: Family) -> dict[str, LowRank]:
    """Every addition of `backbone`, detached copies in float32 on the CPU."""
    return {name: _read(module) for name, module in lora_modules(backbone, family).items()}


@torch.no_grad()
def load_lora_state(backbone: nn.Module, family: Family, state: LowRankState) -> None:
    """Copy additions into a network that has some of the same layers and ranks; where the scale differs, B takes it.

    Raises:
        DataError: layers or shapes differ; nothing has been loaded then.
    """
    modules = lora_modules(backbone, family)
    left, over = sorted(modules.keys() - state.keys()), sorted(state.keys() - modules.keys())
    shapes = [
        name
        for name in modules.keys() & state.keys()
        if state[name].down.shape != modules[name].lora_A[NAME].weight.shape
        or state[name].up.shape != modules[name].lora_B[NAME].weight.shape
        or (state[name].magnitude is None) == _has_magnitude(modules[name])
    ]
    if left or over or shapes:
        raise DataError(
            f"these additions are of other layers: {len(left)} missing {left[:3]}, {len(over)} unknown {over[:3]}, "
            f"{len(shapes)} of another rank, width or kind {sorted(shapes)[:3]}",
            do="set learn.rank, learn.targets and learn.dora as the file has them",
        )
    for name, module in modules.items():
        addition = state[name]
        module.lora_A[NAME].weight.copy_(addition.down)
        module.lora_B[NAME].weight.copy_(addition.up * (addition.scale / module.scaling[NAME]))
        if addition.magnitude is not None:
            module.lora_magnitude_vector[NAME].weight.copy_(addition.magnitude)


def _read(module: Any) -> LowRank:
    down, up = _whole(module.lora_A[NAME].weight), _whole(module.lora_B[NAME].weight)
    magnitude = _whole(module.lora_magnitude_vector[NAME].weight) if _has_magnitude(module) else None
    return LowRank(down, up, float(module.scaling[NAME] * down.shape[0]), magnitude)


def _has_magnitude(module: Any) -> bool:
    return NAME in module.lora_magnitude_vector


def _whole(tensor: Tensor) -> Tensor:
    tensor = tensor.detach()
    tensor = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return tensor.float().cpu().clone()


@torch.no_grad()
def add_to(backbone: nn.Module, family: Family, parts: Sequence[Weighted]) -> None:
    """Add LoRAs to the weights of `backbone`, each by its weight, in place: for pictures, not for training. Their order is of no
    account: each changes the base.

    Raises:
        DataError: the network lacks a layer, or one has another shape; nothing has been added then.
        ConfigError: the weights are in 8 or 4 bits.
    """
    layers = family.lora_layers(backbone)
    unknown = sorted({name for part in parts for name in part.state if name not in layers})
    modules = {
        name: _base(backbone.get_submodule(layers[name])) for part in parts for name in part.state if name in layers
    }
    low = [name for name, module in modules.items() if is_low_bit(module)]
    wide = sorted({name for part in parts for name, each in part.state.items() if name in modules and not low
                   and (each.up.shape[0], *each.down.shape[1:]) != tuple(modules[name].weight.shape)})  # fmt: skip
    if unknown or wide:
        raise DataError(
            f"this LoRA is of another network: {len(unknown)} layers unknown {unknown[:3]}, "
            f"{len(wide)} of another shape {wide[:3]}",
            do="use it with the base it was trained on; 'animeflow lora check FILE --base PATH' tells more",
        )
    if low:
        raise ConfigError(
            "nothing can be added to a base in 8 or 4 bits", where="learn.base_dtype", do="set learn.base_dtype=bf16"
        )
    for name, module in modules.items():
        added = [(part.state[name], part.weight) for part in parts if name in part.state]
        module.weight.copy_(module.weight.double() + changes(module.weight, added))


def _base(module: nn.Module) -> Any:
    """The layer itself, where it has additions of its own."""
    return module.base_layer if isinstance(module, LoraLayer) else module

"""The state of an optimizer as named tensors. Knows parameters and their names; knows no file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import Parameter

from ..core.errors import DataError

V = TypeVar("V")


def flatten_optimizer(optimizer: torch.optim.Optimizer, names: Mapping[Parameter, str]) -> dict[str, Tensor]:
    """Optimizer state as `parameter name/state name -> tensor`, so that another grouping of parameters can still load it."""
    flat = {}
    for parameter, name in names.items():
        for key, value in optimizer.state.get(parameter, {}).items():
            flat[f"{name}/{key}"] = value if isinstance(value, Tensor) else torch.tensor(value)
    return flat


def unflatten_optimizer(
    optimizer: torch.optim.Optimizer, names: Mapping[Parameter, str], flat: Mapping[str, Tensor]
) -> None:
    """Inverse of `flatten_optimizer` for whole tensors, into an optimizer built over the same named parameters."""
    for (parameter, field), value in _placed(names, flat).items():
        device = _device(optimizer, parameter, field)
        optimizer.state[parameter][field] = value.to(device, copy=field == "step")


def blank_optimizer(
    optimizer: torch.optim.Optimizer,
    names: Mapping[Parameter, str],
    facts: Mapping[str, tuple[torch.dtype, torch.Size]],
) -> None:
    """State of the named types and shapes, all zeros, sharded as the parameters are: what a checkpoint can be restored into.

    Args:
        facts: type and shape by the names of `flatten_optimizer`, as `sharded.describe(folder)["optimizer"]` has them.
    """
    optimizer.state.clear()
    for (parameter, field), (dtype, shape) in _placed(names, facts).items():
        if field != "step" and shape == parameter.shape:
            blank = torch.zeros_like(parameter, dtype=dtype, requires_grad=False)
        else:
            blank = torch.zeros(shape, dtype=dtype, device=_device(optimizer, parameter, field))
        optimizer.state[parameter][field] = blank


def _placed(names: Mapping[Parameter, str], flat: Mapping[str, V]) -> dict[tuple[Parameter, str], V]:
    """Values by parameter and state name, in place of the joined names."""
    by_name = {name: parameter for parameter, name in names.items()}
    placed = {}
    for key, value in flat.items():
        name, field = key.rsplit("/", 1)
        if name not in by_name:
            raise DataError(f"the checkpoint's optimizer knows a parameter '{name}' that this learner lacks")
        placed[by_name[name], field] = value
    return placed


def _device(optimizer: torch.optim.Optimizer, parameter: Parameter, field: str) -> torch.device:
    """Moments live with their parameter; torch wants AdamW's counter of steps there too when it is fused, else on the CPU."""
    if field != "step":
        return parameter.device
    group = next(group for group in optimizer.param_groups if any(each is parameter for each in group["params"]))
    return parameter.device if group.get("fused") or group.get("capturable") else torch.device("cpu")

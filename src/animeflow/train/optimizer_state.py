"""The state of an optimizer as named tensors. Knows parameters and their names; knows no file.

What belongs to a parameter is `parameter name/state name`, so that another grouping of parameters can still load it. What belongs
to a group, by the names under its `numbers`, is `:group number/name`. A Python number travels as a tensor of one float64 or
int64, which no moment is, and comes back as a Python number, to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import Parameter

from ..core.errors import DataError

V = TypeVar("V")
GROUP = ":"  # no parameter's name has one
NUMBERS = {float: torch.float64, int: torch.int64}


def flatten_optimizer(optimizer: torch.optim.Optimizer, names: Mapping[Parameter, str]) -> dict[str, Tensor]:
    """Everything by name. Tensors are the optimizer's own; numbers are copies, which `unflatten_optimizer` has to put back."""
    flat = {}
    for parameter, name in names.items():
        for key, value in optimizer.state.get(parameter, {}).items():
            flat[f"{name}/{key}"] = value if isinstance(value, Tensor) else _of_number(value)
    for number, group in enumerate(optimizer.param_groups):
        for key in group.get("numbers", ()):
            flat[f"{GROUP}{number}/{key}"] = _of_number(group[key])
    return flat


def unflatten_optimizer(
    optimizer: torch.optim.Optimizer, names: Mapping[Parameter, str], flat: Mapping[str, Tensor]
) -> None:
    """Inverse of `flatten_optimizer`, into an optimizer built over the same named parameters. Tensors that are there already, as
    those of `blank_optimizer` are after they were filled, stay the same ones."""
    own, shared = _parted(flat)
    for (parameter, field), value in _placed(names, own).items():
        if value.dtype in NUMBERS.values() and value.ndim == 0:
            optimizer.state[parameter][field] = value.item()
        else:
            optimizer.state[parameter][field] = value.to(_device(optimizer, parameter, field), copy=field == "step")
    for (group, field), value in _of_groups(optimizer, shared).items():
        optimizer.param_groups[group][field] = value.item()


def blank_optimizer(
    optimizer: torch.optim.Optimizer,
    names: Mapping[Parameter, str],
    facts: Mapping[str, tuple[torch.dtype, torch.Size]],
) -> None:
    """State of the named types and shapes, all zeros, sharded as the parameters are: what a checkpoint can be restored into. Groups
    keep their numbers, which have their names and types from the beginning.

    Args:
        facts: type and shape by the names of `flatten_optimizer`, as `sharded.describe(folder)["optimizer"]` has them.
    """
    optimizer.state.clear()
    own, _ = _parted(facts)
    for (parameter, field), (dtype, shape) in _placed(names, own).items():
        if dtype in NUMBERS.values() and not shape:
            blank: Any = 0.0 if dtype == torch.float64 else 0
        elif field != "step" and shape == parameter.shape:
            blank = torch.zeros_like(parameter, dtype=dtype, requires_grad=False)
        else:
            blank = torch.zeros(shape, dtype=dtype, device=_device(optimizer, parameter, field))
        optimizer.state[parameter][field] = blank


def _of_number(value: float | int) -> Tensor:
    return torch.tensor(value, dtype=NUMBERS[type(value)])


def _parted(flat: Mapping[str, V]) -> tuple[dict[str, V], dict[str, V]]:
    """What belongs to parameters, and what to groups."""
    shared = {key: value for key, value in flat.items() if key.startswith(GROUP)}
    return {key: value for key, value in flat.items() if key not in shared}, shared


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


def _of_groups(optimizer: torch.optim.Optimizer, flat: Mapping[str, V]) -> dict[tuple[int, str], V]:
    """Values by number of the group and name."""
    placed = {}
    for key, value in flat.items():
        number, field = key.removeprefix(GROUP).rsplit("/", 1)
        groups = optimizer.param_groups
        if not (int(number) < len(groups) and field in groups[int(number)].get("numbers", ())):
            raise DataError(f"the checkpoint's optimizer knows '{field}' of a group {number} that this one lacks")
        placed[int(number), field] = value
    return placed


def _device(optimizer: torch.optim.Optimizer, parameter: Parameter, field: str) -> torch.device:
    """Moments live with their parameter; torch wants AdamW's counter of steps there too when it is fused, else on the CPU."""
    if field != "step":
        return parameter.device
    group = next(group for group in optimizer.param_groups if any(each is parameter for each in group["params"]))
    return parameter.device if group.get("fused") or group.get("capturable") else torch.device("cpu")

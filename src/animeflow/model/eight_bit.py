"""Linear layers in 8 bits for training, on GPUs that have them. Knows blocks; knows no family and no loop.

torchao does it, to the layers that every token goes through. Modulations see one row per picture, and what lies before and after
the blocks is small or delicate, so both stay as they are. Weights keep their names and their dtype.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..core.errors import ConfigError, MissingExtra

STEP = 16  # sides of a matrix that the 8-bit product takes
SMALLEST = 256  # narrower layers lose more in the conversion than the product wins
CAPABILITY = (8, 9)  # Ada; Hopper is (9, 0)


def eight_bit_linears(backbone: nn.Module, *, smallest: int | None = None) -> list[str]:
    """Names of the layers that `use_eight_bits` converts. `smallest` is another limit than `SMALLEST`."""
    least = SMALLEST if smallest is None else smallest
    blocks: Sequence[nn.Module] = backbone.blocks()  # type: ignore[operator]
    inside = {id(module): block for block in blocks for module in block.modules()}
    return [
        name
        for name, module in backbone.named_modules()
        if id(module) in inside and _is_large(module, least) and not _modulates(name)
    ]


def use_eight_bits(backbone: nn.Module, *, device: torch.device, emulate: bool = False) -> list[str]:
    """Convert the large linear layers of the blocks in place, scaled by tensor. First of all: before `keep_activations`,
    `compile_blocks` and `fully_shard`. Only compiled blocks gain by it.

    Args:
        emulate: compute the rounding without the instructions, for tests.

    Returns:
        The names of the converted layers.

    Raises:
        MissingExtra: torchao is not installed.
        ConfigError: the device has no 8-bit products, or no layer is large enough.
    """
    if not emulate:
        _check_device(device)
    names = eight_bit_linears(backbone)
    if not names:
        raise ConfigError(
            "this network has no linear layer that gains by 8 bits",
            where="train.fp8",
            why=f"a layer needs sides of at least {SMALLEST}, in multiples of {STEP}",
            do="set train.fp8=false",
        )
    float8: Any = _torchao()
    chosen = set(names)
    # Rows are tokens times pictures, which need not divide by 16; the product of the weights' gradient runs over them.
    config = float8.Float8LinearConfig(pad_inner_dim=True, emulate=emulate)
    float8.convert_to_float8_training(backbone, config=config, module_filter_fn=lambda _, name: name in chosen)
    return names


def _is_large(module: nn.Module, smallest: int) -> bool:
    if type(module) is not nn.Linear:  # a LoRA's or somebody else's linear layer is theirs
        return False
    sides = (module.in_features, module.out_features)
    return min(sides) >= smallest and not any(side % STEP for side in sides)


def _modulates(name: str) -> bool:
    return any(part.startswith("norm") for part in name.split("."))


def _check_device(device: torch.device) -> None:
    if device.type != "cuda":
        raise ConfigError(
            f"8-bit linear layers need a CUDA device, and this is a {device.type}",
            where="train.fp8",
            do="set train.fp8=false",
        )
    capability = torch.cuda.get_device_capability(device)
    if capability < CAPABILITY:
        raise ConfigError(
            f"{torch.cuda.get_device_name(device)} has no 8-bit products (compute capability {capability[0]}.{capability[1]})",
            where="train.fp8",
            why=f"they come with capability {CAPABILITY[0]}.{CAPABILITY[1]}: Ada, Hopper and newer",
            do="set train.fp8=false",
        )


def _torchao() -> Any:
    try:
        import torchao.float8 as float8
    except ImportError as error:
        raise MissingExtra(
            "8-bit linear layers need torchao",
            where="train.fp8",
            do="pip install 'animeflow[fp8]', or set train.fp8=false",
        ) from error
    return float8

"""Low-rank additions on a frozen base: which layers get one, how it starts, and how it is switched off. Knows peft; knows no
family by name and no loop.

The additions are float32 whatever the base is stored in: at a usual rate most updates of a bf16 weight round to nothing.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import nn

from ..core.errors import ConfigError, did_you_mean
from ..core.seed import generator
from ..model.low_rank import LowRankState
from ..model.protocol import Family
from .settings import LoraSettings

NAME = "animeflow"  # of the additions within peft
PRESETS = "learn.targets"


def targets_of(layers: Mapping[str, str], presets: Mapping[str, Sequence[str]], settings: LoraSettings) -> list[str]:
    """The layers, by their names in files, that get an addition, in the order of the network.

    Args:
        layers: of the family, `lora_layers`.
        presets: of the family, `lora_targets`.
    Raises:
        ConfigError: an unknown preset, or a pattern that fits no layer.
    """
    asked = settings.targets
    if isinstance(asked, str) and asked not in presets and not any(fnmatchcase(name, asked) for name in layers):
        raise ConfigError(
            f"unknown targets '{asked}'{did_you_mean(asked, presets)}",
            where=PRESETS,
            do=f"choose one of: {', '.join(presets)}; or give a pattern of layer names, such as '*.{_end(layers)}'",
        )
    patterns = presets.get(asked, (asked,)) if isinstance(asked, str) else asked
    for where, pattern in [(PRESETS, p) for p in patterns] + [
        (f"learn.{key}", p) for key in ("ranks", "alphas") for p in getattr(settings, key)
    ]:
        if not any(fnmatchcase(name, pattern) for name in layers):
            raise ConfigError(
                f"no layer is called like '{pattern}'",
                where=where,
                do=f"layer names look like {next(iter(layers))}; `*` stands for anything",
            )
    chosen = [name for name in layers if any(fnmatchcase(name, pattern) for pattern in patterns)]
    chosen = [name for name in chosen if settings.rank_of(name) > 0]
    if not chosen:
        raise ConfigError("no layer gets an addition", where=PRESETS, why="every one has rank 0", do="raise learn.rank")
    return chosen


def attach(family: Family, backbone: nn.Module, settings: LoraSettings, *, seed: int) -> list[str]:
    """Freeze `backbone` and add what learns, in place; it computes as before, since every addition starts at zero.

    A is uniform in +-1/sqrt(in) (Kaiming's with a = sqrt 5, as in the paper's code), drawn by the name of its layer; B is zero.

    Args:
        family: tells the layers of its backbone.
        seed: of A.
    Returns:
        The layers that got one, by their names in files.
    Raises:
        ConfigError: there are no such layers, or they have additions already.
    """
    if any(isinstance(module, LoraLayer) for module in backbone.modules()):
        raise ConfigError("this network has low-rank additions already", where="learn", do="set model.adapter=freeze")
    layers = family.lora_layers(backbone)
    chosen = targets_of(layers, family.lora_targets, settings)
    modules = {layers[name]: name for name in chosen}
    ranks = {module: settings.rank_of(name) for module, name in modules.items()}
    alphas = {module: settings.alpha_of(name) for module, name in modules.items()}
    _inject(backbone, settings, ranks, alphas)
    found = {name: module for name, module in backbone.named_modules() if isinstance(module, LoraLayer)}
    if set(found) != set(modules):
        raise RuntimeError(f"peft added to {len(found)} layers instead of {len(modules)}")
    backbone.requires_grad_(False)
    for path, module in found.items():
        _start(module, modules[path], seed)
    return chosen


def _inject(backbone: nn.Module, settings: LoraSettings, ranks: Mapping[str, int], alphas: Mapping[str, float]) -> None:
    # Patterns are regular expressions to peft, matched at the end of a name; ours are whole names.
    config = LoraConfig(
        r=max(ranks.values()),
        lora_alpha=1.0,
        target_modules=list(ranks),
        rank_pattern={re.escape(name): rank for name, rank in ranks.items()},
        alpha_pattern={re.escape(name): alpha for name, alpha in alphas.items()},
        lora_dropout=settings.dropout,
        use_dora=settings.dora,
    )
    with torch.random.fork_rng(devices=[]):  # peft draws; that is replaced
        inject_adapter_in_model(config, backbone, adapter_name=NAME)


@torch.no_grad()
def _start(module: Any, name: str, seed: int) -> None:
    down, up = module.lora_A[NAME].weight, module.lora_B[NAME].weight
    bound = 1 / math.sqrt(down[0].numel())
    down.copy_((2 * torch.rand(down.shape, generator=generator(seed, "lora", name)) - 1) * bound)
    up.zero_()
    for parameter in own_parameters(module):
        parameter.data = parameter.data.float()
        parameter.requires_grad_(True)


def own_parameters(module: Any) -> Iterator[nn.Parameter]:
    """A, B and, with DoRA, the magnitudes of one layer."""
    for part in (module.lora_A, module.lora_B, module.lora_magnitude_vector):
        yield from part.parameters()


def lora_modules(backbone: nn.Module, family: Family) -> dict[str, Any]:
    """The layers with additions by their names in files, in the order of the network."""
    found = {name: module for name, module in backbone.named_modules() if isinstance(module, LoraLayer)}
    return {name: found[path] for name, path in family.lora_layers(backbone).items() if path in found}


@contextlib.contextmanager
def adapters_off(backbone: nn.Module) -> Iterator[None]:
    """Inside, `backbone` is its base."""
    layers = [module for module in backbone.modules() if isinstance(module, LoraLayer)]
    before = [module._disable_adapters for module in layers]
    try:
        for module in layers:
            # Not peft's `enable_adapters`, which also takes the gradients away: the step is in the middle of its work.
            module._disable_adapters = True
        yield
    finally:
        for module, off in zip(layers, before, strict=True):
            module._disable_adapters = off


def freeze_into(backbone: Any, dtype: torch.dtype) -> None:
    """Cast the frozen weights inside the blocks, in place. What stands outside, the embeddings of time and patch and the last
    layer, stays float32: it is small, and a t rounded to bf16 is another t."""
    for block in backbone.blocks():
        for parameter in block.parameters():
            if not parameter.requires_grad and parameter.is_floating_point():
                parameter.data = parameter.data.to(dtype)


def numbers(family: Family, outline: nn.Module, settings: LoraSettings) -> dict[str, int]:
    """Parameters of every addition that `attach` would make, without making one; `outline` may be on the meta device."""
    layers = family.lora_layers(outline)
    found: dict[str, int] = {}
    for name in targets_of(layers, family.lora_targets, settings):
        layer: Any = outline.get_submodule(layers[name])
        rows, columns = layer.weight.shape[0], layer.weight[0].numel()
        found[name] = settings.rank_of(name) * (rows + columns) + (rows if settings.dora else 0)
    return found


def continued(settings: LoraSettings, state: LowRankState) -> LoraSettings:
    """Settings whose layers, ranks and scales are those of a file that is gone on from. Raises ConfigError for one of two kinds."""
    lengths = [addition.magnitude is not None for addition in state.values()]
    if any(lengths) and not all(lengths):
        raise ConfigError(
            f"{sum(lengths)} of its {len(state)} layers have lengths of DoRA and the others have none",
            where="learn.start",
            why="additions of one run are of one kind",
            do="merge it into the base ('animeflow lora merge') and go on from there",
        )
    return replace(
        settings,
        targets=tuple(state),
        ranks={name: addition.rank for name, addition in state.items()},
        alphas={name: addition.alpha for name, addition in state.items()},
        rslora=False,
        dora=any(addition.magnitude is not None for addition in state.values()),
    )


def frozen_linear(family: Family, backbone: nn.Module) -> list[str]:
    """Modules of the linear layers inside the blocks, which hold nearly all of a base's memory."""
    blocks = {id(part) for block in backbone.blocks() for part in block.modules()}  # type: ignore[operator]
    return [path for path in family.lora_layers(backbone).values() if id(backbone.get_submodule(path)) in blocks]


def _end(layers: Mapping[str, str]) -> str:
    return next(iter(layers)).rsplit(".", 1)[-1]

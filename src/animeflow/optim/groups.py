"""Which parameters share a learning rate, and which are decayed. Knows names and shapes; knows no family."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from ..core.errors import ConfigError, did_you_mean

REST = ""  # the part of all parameters that no rate names
UP = ".lora_B."  # in the names of the up matrices of low-rank additions, as peft gives them
MAGNITUDE = "lora_magnitude_vector"  # DoRA's lengths of rows: vectors, though a convolution's have more axes


def parameter_groups(
    module: nn.Module, *, lr: float, weight_decay: float, rates: Mapping[str, float], lora_plus: float = 1.0
) -> list[dict]:
    """The trainable parameters by part and decay. A group holds its `part`, its `peak_lr`, which a schedule multiplies, and what
    torch wants: `params`, `lr`, `weight_decay`.

    A part is a key of `rates`: the dotted beginning of names, in whole components (`adapter` takes `adapter.norm.weight`, not
    `adapter_norm.weight`); of two that fit the longer one. Matrices and convolutions are decayed; biases, norms and other
    vectors are not (they have one axis; the rule of nanoGPT), nor are embeddings, whose rows are mostly not asked for in a step.

    Args:
        lora_plus: the rate of the up matrices B of low-rank additions is so many times that of all else (LoRA+, arXiv
            2402.12354): B starts at zero, and at one rate it learns too slowly beside A. Their groups have `up`.

    Raises:
        ConfigError: nothing is trainable, or no trainable parameter is of a part, or there is no B.
    """
    found: dict[tuple[str, bool, bool], list[nn.Parameter]] = defaultdict(list)
    embeddings = {id(part.weight) for part in module.modules() if isinstance(part, nn.Embedding)}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            decayed = parameter.ndim > 1 and id(parameter) not in embeddings and MAGNITUDE not in name
            up = lora_plus != 1 and UP in f".{name}."
            found[part_of(name, rates), up, decayed].append(parameter)
    if not found:
        raise ConfigError("every parameter of the learner is frozen", where="model", do="let a part of it train")
    for part in rates:
        if part not in {found_part for found_part, _, _ in found}:
            raise _no_such_part(part, [name for name, _ in module.named_parameters()])
    if lora_plus != 1 and not any(up for _, up, _ in found):
        raise ConfigError(
            f"lora_plus {lora_plus:g} acts on nothing: no low-rank addition learns",
            where="optim.lora_plus",
            do="set it to 1, or train with learn=lora",
        )
    return [
        {"part": part, "up": up, "peak_lr": peak, "params": found[part, up, decayed], "lr": peak, "weight_decay": decay}
        for part, rate in {REST: lr, **rates}.items()
        for up, peak in ((False, rate), (True, rate * lora_plus))
        for decayed, decay in ((True, weight_decay), (False, 0.0))
        if (part, up, decayed) in found
    ]


def part_of(name: str, parts: Iterable[str]) -> str:
    """The longest of `parts` that `name` is in; `REST` when it is in none."""
    return max((part for part in parts if f"{name}.".startswith(f"{part}.")), key=len, default=REST)


def tell(module: nn.Module, groups: Iterable[Mapping[str, Any]]) -> list[str]:
    """A line per part with its number of parameters and its peak rate, and one for what is frozen."""
    counts: dict[tuple[str, bool, float], int] = defaultdict(int)
    for group in groups:
        key = group["part"], group["up"], group["peak_lr"]
        counts[key] += sum(parameter.numel() for parameter in group["params"])
    rest = "all others" if len(counts) > 1 else "all"
    lines = [
        f"{', '.join([part] * bool(part) + ['B of LoRA'] * up) or rest}: {number:,} parameters at a peak learning rate "
        f"of {rate:g}"
        for (part, up, rate), number in counts.items()
    ]
    frozen = sum(parameter.numel() for parameter in module.parameters() if not parameter.requires_grad)
    return [*lines, f"frozen: {frozen:,} parameters"] if frozen else lines


def _no_such_part(part: str, names: list[str]) -> ConfigError:
    """Either the word is wrong, or all that it names is frozen or has a rate of a longer prefix."""
    there = [name for name in names if part_of(name, [part])]
    if there:
        return ConfigError(
            f"no trainable parameter is left for '{part}'",
            where="optim.rates",
            why=f"all of its {len(there)} tensors are frozen, or a longer prefix takes them",
            do="leave this rate out, or let the part train",
        )
    known = list(dict.fromkeys(".".join(name.split(".")[:depth]) for depth in (1, 2) for name in names if "." in name))
    return ConfigError(
        f"no parameter begins with '{part}'{did_you_mean(part, known)}",
        where="optim.rates",
        do=f"begin with one of: {', '.join(dict.fromkeys(name.split('.')[0] for name in names))}",
    )

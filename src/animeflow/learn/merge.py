"""Several LoRAs into a network's weights, or into one LoRA. Knows tensors by layer; knows no file and no family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.errors import ConfigError, DataError, did_you_mean
from ..model.low_rank import LowRank, LowRankState


@dataclass(frozen=True)
class Weighted:
    """A LoRA, how much of it, and its name for messages."""

    name: str
    state: LowRankState
    weight: float = 1.0


def merged(weights: Mapping[str, Tensor], parts: Sequence[Weighted]) -> dict[str, Tensor]:
    """The weights (names of `export_state`) plus every part's delta W times its weight, summed in float64, in the dtype of before.
    A part with lengths of DoRA adds its weight times (its layer - the base's), which is what programs do at a strength below 1.
    Tensors that nothing is added to are the very same.

    Raises:
        DataError: a part is for a layer that these weights lack, or of another shape.
    """
    for part in parts:
        _check(part, weights)
    result = dict(weights)
    for layer in dict.fromkeys(layer for part in parts if part.weight for layer in part.state):
        weight = weights[f"{layer}.weight"]
        here = [(part.state[layer], part.weight) for part in parts if layer in part.state]
        result[f"{layer}.weight"] = (weight.double() + changes(weight, here)).to(weight.dtype)
    return result


def changes(weight: Tensor, additions: Sequence[tuple[LowRank, float]]) -> Tensor:
    """What several additions, each so many times, change of one layer's weight, float64 in its shape and on its device. Each is
    measured against `weight` itself, so their order does not matter, lengths of DoRA included."""
    total = torch.zeros_like(weight, dtype=torch.float64)
    for addition, strength in additions:
        if strength:
            total += strength * _change(addition, weight)
    return total


def joined(parts: Sequence[Weighted]) -> dict[str, LowRank]:
    """One LoRA that adds what the parts add together: their ranks side by side, weights and scales folded in, alpha = rank. Exact
    but for the rounding of float32. A part of weight 0 takes no rank.

    Raises:
        ConfigError: a part has lengths of DoRA, which no sum of delta W can say, or all weights are 0.
        DataError: two parts have a layer of different shapes.
    """
    used = [part for part in parts if part.weight]
    if not used:
        raise ConfigError("every weight is 0", where="FILE=WEIGHT", do="give at least one file a weight")
    return {
        layer: _side_by_side(layer, [part for part in used if layer in part.state])
        for layer in dict.fromkeys(layer for part in used for layer in part.state)
    }


def _change(addition: LowRank, weight: Tensor) -> Tensor:
    if addition.magnitude is not None:
        return addition.applied(weight) - weight.double()
    return addition.delta().to(weight.device).reshape(weight.shape)


def _side_by_side(layer: str, parts: Sequence[Weighted]) -> LowRank:
    additions = [part.state[layer] for part in parts]
    for part, addition in zip(parts, additions, strict=True):
        if addition.magnitude is not None:
            raise ConfigError(
                f"{part.name} is a DoRA: its layers have lengths of their own ({layer} among them)",
                why="what it does depends on the base's weights, so no LoRA can hold its sum with another",
                do="give --base, and merge into the model",
            )
        first = additions[0]
        if addition.up.shape[:1] != first.up.shape[:1] or addition.down.shape[1:] != first.down.shape[1:]:
            raise DataError(
                f"{layer} is {_shape(addition)} in {part.name} and {_shape(first)} in {parts[0].name}",
                why="they are for models of different sizes",
                do="merge LoRA files of one model",
            )
    ups = [part.weight * each.scale * each.up.double() for part, each in zip(parts, additions, strict=True)]
    down = torch.cat([each.down.float() for each in additions])
    return LowRank(down=down, up=torch.cat(ups, dim=1).float(), alpha=float(down.shape[0]))


def _check(part: Weighted, weights: Mapping[str, Tensor]) -> None:
    layers = {name.removesuffix(".weight") for name in weights if name.endswith(".weight")}
    unknown = [layer for layer in part.state if layer not in layers]
    if unknown:
        raise DataError(
            f"{part.name} is for {len(unknown)} layers that the base lacks: {unknown[0]}{did_you_mean(unknown[0], layers)}",
            why="it was made for another model, and a part of it would be lost",
            do="give the base that it was trained on",
        )
    for layer, addition in part.state.items():
        shape = tuple(weights[f"{layer}.weight"].shape)
        if (shape[0], *shape[1:]) != (addition.up.shape[0], *addition.down.shape[1:]):
            raise DataError(
                f"{layer} is {_shape(addition)} in {part.name} and {' x '.join(map(str, shape))} in the base",
                why="it was made for a model of another size",
                do="give the base that it was trained on",
            )


def _shape(addition: LowRank) -> str:
    return " x ".join(str(size) for size in (addition.up.shape[0], *addition.down.shape[1:]))

"""Small networks of both families whose blocks do something: fresh ones are the identity, and would hide every mistake."""

from __future__ import annotations

from typing import Any

import torch

from animeflow.core.seed import normal
from animeflow.model import registry

FAMILIES = ("sd35", "anima")


def small(name: str) -> Any:
    """A tiny family with weights drawn by name."""
    options: dict[str, Any] = {"depth": 2, "heads": 2} if name == "sd35" else {}
    family = registry.constructor(name)("tiny", **options)
    with torch.no_grad():
        for key, parameter in family.backbone().named_parameters():
            if parameter.ndim > 1:
                parameter.copy_(0.3 / parameter[0].numel() ** 0.5 * normal(tuple(parameter.shape), 5, key))
    return family


def velocity(family: Any, backbone: Any = None, *, seed: int = 0) -> torch.Tensor:
    """What the network answers at one fixed input, without gradients."""
    x, cond = family.random_inputs(2, height=64, width=64, tokens=family.text_tokens, seed=seed)
    with torch.no_grad():
        return (backbone or family.backbone()).eval()(x, torch.tensor([0.3, 0.8]), cond)


def stir(backbone: Any, *, seed: int = 1, scale: float = 0.3) -> None:
    """Numbers in B and in the magnitudes, as if it had learned."""
    with torch.no_grad():
        for name, parameter in backbone.named_parameters():
            if ".lora_B." in name:
                parameter.copy_(scale * normal(tuple(parameter.shape), seed, name))
            if "lora_magnitude_vector" in name:
                parameter.mul_(1 + 0.1 * normal(tuple(parameter.shape), seed, name))

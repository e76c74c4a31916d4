"""Which layers of a network can have a low-rank addition. Knows torch's layers; knows no family."""

from __future__ import annotations

from torch import nn


def low_rank_layers(network: nn.Module) -> list[str]:
    """Names of linear layers and convolutions, in order; the same whether some have additions (peft's) or not."""
    names: dict[str, None] = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d) and ".lora_" not in name:
            names[name.removesuffix(".base_layer")] = None
    return list(names)

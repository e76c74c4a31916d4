"""A small network with low-rank additions, as peft makes them, and gradients that are functions of the step."""

from __future__ import annotations

import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn, self.mlp = nn.Linear(40, 30), nn.Linear(30, 20)

    def blocks(self) -> list[nn.Module]:
        return [self]

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(torch.tanh(self.attn(x)))


def with_additions(*, dora: bool = False, rank: int = 2) -> Net:
    """What learns is A (drawn), B (zero) and, with DoRA, the lengths of the rows."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Net()
        config = LoraConfig(r=rank, lora_alpha=rank, target_modules=["attn", "mlp"], use_dora=dora)
        inject_adapter_in_model(config, net, adapter_name="animeflow")
    return net


def give_gradients(module: nn.Module, step: int, *, scale: float = 1.0) -> None:
    draw = torch.Generator().manual_seed(step)
    for p in module.parameters():
        if p.requires_grad:
            p.grad = (torch.randn(p.shape, generator=draw) * scale).to(p.dtype)


def learns(module: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def copies(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in learns(module).items()}

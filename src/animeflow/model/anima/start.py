"""Where an Anima network that learns from nothing starts. Knows names and shapes of its weights; knows no file."""

from __future__ import annotations

import torch
from diffusers import AnimaTextConditioner, CosmosTransformer3DModel
from torch import Tensor

from ...core.seed import generator

TIME_WIDTH = 0.1  # t in [0, 1] moves the waves little, so the layer after them has to be loud
POSITION_WIDTH = 0.3  # before the network norms them


@torch.no_grad()
def initialise(net: CosmosTransformer3DModel, adapter: AnimaTextConditioner, *, seed: int) -> None:
    """DiT's start (arXiv 2212.09748, 3.2 adaLN-Zero): every block is the identity, its gates are zero, and so is the velocity.

    Linear layers Xavier uniform with zero bias; the second layer of every modulation, the one of the time embedding that
    all modulations add, and the last layer are zero. The adapter's blocks start as the identity on a unit-scale embedding.
    Each tensor is drawn from its own name, so the order does not matter.
    """
    for module, part in ((net, "backbone"), (adapter, "adapter")):
        for name, parameter in module.named_parameters():
            parameter.copy_(_start(part, name, parameter, seed))


def _start(part: str, name: str, parameter: Tensor, root: int) -> Tensor:
    draw = generator(root, part, name)
    if name.endswith("bias"):
        return torch.zeros_like(parameter)
    if parameter.ndim == 1:  # gains of norms
        return torch.ones_like(parameter)
    if part == "adapter":
        if name == "embed.weight":
            return torch.randn(parameter.shape, generator=draw)
        if name.endswith(("o_proj.weight", "mlp.2.weight")):
            return torch.zeros_like(parameter)
    elif (
        name == "proj_out.weight"
        or ("norm" in name and ".linear_2." in name)
        or name.endswith("t_embedder.linear_2.weight")
    ):
        return torch.zeros_like(parameter)
    elif name.startswith("learnable_pos_embed."):
        return torch.normal(0.0, POSITION_WIDTH, parameter.shape, generator=draw)
    elif name.startswith("time_embed."):
        return torch.normal(0.0, TIME_WIDTH, parameter.shape, generator=draw)
    fan_out, fan_in = parameter.shape[0], parameter[0].numel()
    bound = (6 / (fan_in + fan_out)) ** 0.5
    return (2 * torch.rand(parameter.shape, generator=draw) - 1) * bound

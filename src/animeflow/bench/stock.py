"""The peer of our step: diffusers' module as it is, autocast, eager, default attention, torch's default AdamW. Knows no family."""

from __future__ import annotations

import torch
from torch import nn

from ..model.protocol import Family
from ..optim.groups import parameter_groups
from .job import Job
from .loop import Side


def stock(job: Job, family: Family, backbone: nn.Module, device: torch.device) -> Side:
    """A loop as a plain training script has it, on a copy of `backbone`'s weights. It has the same data, draws, loss, rates and
    decay; no compiled block, no fused optimizer and no averages."""
    module = family.stock(backbone).to(device)
    optim = job.optim
    groups = parameter_groups(module, lr=optim.lr, weight_decay=optim.weight_decay, rates=optim.rates)
    return Side(
        "stock",
        module,
        recipe=job.recipe,
        optimizer=torch.optim.AdamW(groups, lr=optim.lr, betas=optim.betas, eps=optim.eps),
        ema=None,
        low=job.settings.precision == "bf16",
        clip=job.settings.clip,
    )

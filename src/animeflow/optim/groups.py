"""Which parameters are decayed. Knows names and shapes; knows no family."""

from __future__ import annotations

from torch import nn


def decay_groups(module: nn.Module, *, weight_decay: float) -> list[dict]:
    """Two groups of the trainable parameters: matrices and convolutions are decayed; biases, norms and other vectors are not
    (they have one axis; the rule of nanoGPT)."""
    decayed = [p for p in module.parameters() if p.requires_grad and p.ndim > 1]
    kept = [p for p in module.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": kept, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]

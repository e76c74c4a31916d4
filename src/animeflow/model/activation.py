"""What of a block is kept for the backward pass, and what is computed again. Knows blocks; knows no family and no loop.

A block's `forward` is replaced by one that checkpoints the block's own. No module is put around it, so weights keep their
names, the compiler sees what is kept, and sharding finds the same blocks.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from types import MethodType
from typing import Any

import torch
from torch import nn
from torch._functorch import config as compiler
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from ..core.errors import ConfigError, did_you_mean

MODES = ("none", "selective", "full", "budget")

_aten = torch.ops.aten
# What costs more to compute than to keep. The rest (norms, modulations, GELU, rotations, joins) is a few reads and writes.
KEPT = frozenset(
    getattr(_aten, name).default
    for name in (
        "mm",
        "addmm",
        "bmm",
        "baddbmm",
        "_scaled_mm",
        "convolution",
        "_scaled_dot_product_flash_attention",
        "_scaled_dot_product_flash_attention_for_cpu",
        "_scaled_dot_product_efficient_attention",
        "_scaled_dot_product_cudnn_attention",
        "_scaled_dot_product_attention_math",
    )
    if hasattr(_aten, name)
)


def keep_activations(backbone: nn.Module, mode: str, *, budget: float = 0.5) -> None:
    """Decide what the blocks of `backbone.blocks()` keep. Gradients are the same in every mode. Call it before the blocks are
    compiled and sharded; calling it again replaces the choice as long as they are not.

    Args:
        mode: "none" computes nothing again. "selective" keeps products and attention and computes the cheap rest again. "full"
            keeps what enters a block. "budget" lets the compiler choose; without compiled blocks it does nothing.
        budget: under "budget", the share of what "none" keeps; 1 is all of it.

    Raises:
        ConfigError: an unknown mode, or a budget outside (0, 1].
    """
    _check(mode, budget)
    compiler.activation_memory_budget = budget if mode == "budget" else 1.0
    blocks: Sequence[nn.Module] = backbone.blocks()  # type: ignore[operator]
    for block in blocks:
        block.__dict__.pop("forward", None)
        if mode in ("selective", "full"):
            block.forward = MethodType(_again(type(block).forward, mode == "selective"), block)


@functools.cache
def _again(forward: Callable[..., Any], selectively: bool) -> Callable[..., Any]:
    """`forward` of a class of blocks, checkpointed. One function for all blocks of a class: those that are built alike then share
    one compiled graph. Nothing in a block is random, so the generators' states, which would wait for the GPU, are not kept."""
    options: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": False}
    if selectively:
        options["context_fn"] = _contexts

    def checkpointed(block: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(block, *args, **kwargs)
        return checkpoint(functools.partial(forward, block), *args, **options, **kwargs)

    return checkpointed


def _contexts() -> Any:
    return create_selective_checkpoint_contexts(_policy)


def _policy(context: Any, operator: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if operator in KEPT else CheckpointPolicy.PREFER_RECOMPUTE


def _check(mode: str, budget: float) -> None:
    if mode not in MODES:
        raise ConfigError(
            f"unknown activation memory '{mode}'{did_you_mean(mode, MODES)}",
            where="train.activation_memory",
            do=f"choose one of: {', '.join(MODES)}",
        )
    if mode == "budget" and not 0 < budget <= 1:
        raise ConfigError(
            f"an activation budget of {budget} is no share of what there is to keep",
            where="train.activation_budget",
            do="use a number above 0 and at most 1; 0.5 is usual",
        )

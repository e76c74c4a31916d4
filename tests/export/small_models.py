"""Small models whose every weight is a different random number: a mapping that loses or swaps something cannot hide."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL

from animeflow.core.seed import normal


def stirred(module: torch.nn.Module, *, scale: float = 0.05) -> torch.nn.Module:
    """Random numbers keyed by name added to every parameter: zeros of an adaLN-Zero start would make every comparison trivial."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.add_(normal(tuple(parameter.shape), "stirred", name), alpha=scale)
    return module


def small_vae() -> AutoencoderKL:
    with torch.random.fork_rng(devices=[]):
        return stirred(
            AutoencoderKL(
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
                block_out_channels=(8, 8, 16, 16),
                layers_per_block=1,
                latent_channels=16,
                norm_num_groups=4,
                scaling_factor=1.5305,
                shift_factor=0.0609,
                use_quant_conv=False,
                use_post_quant_conv=False,
            )
        )

"""Parameter counts of SD3.5's parts without memory for them. Knows configs; knows no weight."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, SD3Transformer2DModel
from torch import nn

from ...core.files import read_json
from ..codec import load_codec
from ..pretrained import check_kind, kind_of
from .shapes import Shape

# What Stability released beside SD3.5: OpenAI's CLIP-L, LAION's CLIP bigG, Google's T5 v1.1 XXL encoder, a 16-channel VAE.
CLIP_L = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "projection_dim": 768,
}
CLIP_G = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "projection_dim": 1280,
    "hidden_act": "gelu",
}
T5_XXL = {
    "vocab_size": 32128,
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_layers": 24,
    "num_heads": 64,
    "feed_forward_proj": "gated-gelu",
}
SD3_VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 16,
    "scaling_factor": 1.5305,
    "shift_factor": 0.0609,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}


def backbone_parameters(shape: Shape) -> int:
    """Trainable numbers of the MMDiT; the fixed position table is not among them."""
    return _on_meta(lambda: SD3Transformer2DModel(**shape.config()))


def text_parameters(folder: Path | None) -> dict[str, int]:
    """Of the text encoders in a pipeline folder, or of the released ones."""
    from transformers import CLIPTextModelWithProjection, T5EncoderModel

    if folder is None:
        configs: dict[str, dict[str, Any]] = {"clip_l": CLIP_L, "clip_g": CLIP_G, "t5": T5_XXL}
    else:
        files = {"clip_l": "text_encoder", "clip_g": "text_encoder_2", "t5": "text_encoder_3"}
        found = {name: folder / part / "config.json" for name, part in files.items()}
        configs = {name: read_json(file) for name, file in found.items() if file.is_file()}
        for name in configs:
            check_kind(found[name].parent, T5EncoderModel if name == "t5" else CLIPTextModelWithProjection)
    return {name: _on_meta(functools.partial(_encoder, name, config)) for name, config in configs.items()}


def codec_parameters(folder: Path | None) -> int:
    """Of the codec in a folder, or of SD3's. TAESD's native files have no config, and are small enough to be built."""
    if folder is not None and not (folder / "config.json").is_file():
        return load_codec(folder).num_parameters
    config = read_json(folder / "config.json") if folder else {"_class_name": "AutoencoderKL", **SD3_VAE}
    kind = AutoencoderTiny if kind_of(config) == "AutoencoderTiny" else AutoencoderKL
    if folder is not None:
        check_kind(folder, kind)
    return _on_meta(lambda: kind.from_config(config))


def _encoder(name: str, config: dict[str, Any]) -> nn.Module:
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection, T5Config, T5EncoderModel

    if name == "t5":
        return T5EncoderModel(T5Config(**config))
    return CLIPTextModelWithProjection(CLIPTextConfig(**config))


def _on_meta(build: Callable[[], nn.Module]) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build().parameters())

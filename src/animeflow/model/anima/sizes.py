"""Parameter counts of Anima's parts without memory for them. Knows configs; knows no weight."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AnimaTextConditioner,
    AutoencoderKL,
    AutoencoderKLQwenImage,
    AutoencoderTiny,
    CosmosTransformer3DModel,
)
from torch import nn

from ...core.errors import DataError
from ...core.files import read_json
from ..codec import load_codec
from ..pretrained import check_kind, kind_of
from .shapes import Shape

# The config of Qwen3-0.6B (base), of which a single file holds no trace.
QWEN3_06B: dict[str, Any] = {
    "vocab_size": 151936,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 32768,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0},
    "tie_word_embeddings": True,
    "bos_token_id": 151643,
    "eos_token_id": 151643,
}
CODECS = {
    "AutoencoderKLQwenImage": AutoencoderKLQwenImage,
    "AutoencoderKL": AutoencoderKL,
    "AutoencoderTiny": AutoencoderTiny,
}


def transformer_parameters(shape: Shape) -> int:
    return _on_meta(lambda: CosmosTransformer3DModel(**shape.transformer_config()))


def adapter_parameters(shape: Shape) -> int:
    return _on_meta(lambda: AnimaTextConditioner(**shape.conditioner_config()))


def lora_parameters(shape: Shape, rank: int) -> int:
    """Of a LoRA on every linear layer of the adapter: rank x (in + out) each."""
    with torch.device("meta"):
        adapter = AnimaTextConditioner(**shape.conditioner_config())
    linear = [module for module in adapter.modules() if isinstance(module, nn.Linear)]
    return sum(rank * (layer.in_features + layer.out_features) for layer in linear)


def text_parameters(folder: Path | None) -> int:
    """Of the Qwen3 in a pipeline folder, or of the released one."""
    from transformers import Qwen3Config, Qwen3Model

    if folder is not None:
        check_kind(folder / "text_encoder", Qwen3Model)
    config = read_json(folder / "text_encoder" / "config.json") if folder is not None else QWEN3_06B
    return _on_meta(lambda: Qwen3Model(Qwen3Config(**config)))


def codec_parameters(folder: Path | None) -> int:
    """Of the codec in a folder, or of Qwen-Image's. TAESD's native files have no config, and are small enough to be built."""
    if folder is None:
        return _on_meta(AutoencoderKLQwenImage)
    if not (folder / "config.json").is_file():
        return load_codec(folder).num_parameters
    config = read_json(folder / "config.json")
    name = kind_of(config)
    if name not in CODECS:
        raise DataError(
            f"config.json names the class {name!r}", where=str(folder), do=f"known codecs: {', '.join(CODECS)}"
        )
    kind = CODECS[name]
    return _on_meta(lambda: kind.from_config(config))


def _on_meta(build: Callable[[], nn.Module]) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build().parameters())

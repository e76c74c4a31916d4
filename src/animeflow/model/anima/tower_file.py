"""A text tower from the file that ComfyUI users have, qwen_3_06b_base.safetensors. Knows its config; knows no pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ...core.errors import ConfigError
from ..state import check_state
from ..weights import hash_files
from .load import stored_text_state
from .sizes import QWEN3_06B
from .text_tower import AnimaTextTower, load_tokenizers


def tower_from_file(file: Path, tokenizers: Path | None, *, dtype: torch.dtype, **options: Any) -> AnimaTextTower:
    """Raises ConfigError without a folder of tokenizers, DataError for a file that is no Qwen3-0.6B."""
    from transformers import Qwen3Config, Qwen3Model

    if tokenizers is None:
        raise ConfigError(
            "a text encoder's file needs its tokenizers beside it",
            where="model.tokenizers",
            do="give a folder with Qwen's and T5's tokenizers in `tokenizer` and `t5_tokenizer`, e.g. a diffusers Anima pipeline",
        )
    both = load_tokenizers(tokenizers)  # before the large file: a wrong folder is told at once
    state = stored_text_state(file)
    with torch.device("meta"):
        model = Qwen3Model(Qwen3Config(**QWEN3_06B))
    check_state(model.state_dict(), state, where=str(file))
    model.load_state_dict({name: tensor.to(dtype) for name, tensor in state.items()}, assign=True)
    model.rotary_emb = type(model.rotary_emb)(model.config)  # its speeds are in no file, and the meta device has none
    return AnimaTextTower(model, *both, weights=hash_files([file]), **options)

"""A small Qwen3 with designed random weights, and tokenizers from a word list: nothing to download. Reads no file.

Nothing here is trained. Every token has its own random direction, drawn from its text, so adding a word to the list moves no other;
attention is nearly even over what came before, so a state holds the token and the words that led to it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Qwen3Config, Qwen3Model

from ...core.errors import ConfigError
from ...core.seed import normal
from ..tiny_tokenizers import qwen_tokenizer, t5_tokenizer
from .text_tower import AnimaTextTower

HEAD = 16
T5_LENGTH = 512  # what the tokenizer's config says; nothing is cut by it


def tiny_tower(words: Sequence[str], *, qwen_dim: int = 64, seed: int = 0, **options: Any) -> AnimaTextTower:
    """Tower whose states have `qwen_dim` channels, a multiple of 32; each of `words` becomes one token. `options`: the tower's."""
    if qwen_dim % (2 * HEAD) or qwen_dim < 2 * HEAD:
        raise ConfigError(f"Qwen width {qwen_dim} is not a multiple of {2 * HEAD}", where="model.qwen_dim", do="use 64")
    tokenizer = qwen_tokenizer(words)
    return AnimaTextTower(_qwen(tokenizer, qwen_dim, seed), tokenizer, t5_tokenizer(words, length=T5_LENGTH), **options)


def _qwen(tokenizer: Any, width: int, seed: int) -> Qwen3Model:
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=width // HEAD,
        num_key_value_heads=width // HEAD // 2,
        head_dim=HEAD,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        model = Qwen3Model(config)
    model.load_state_dict({name: _weight(name, tensor, tokenizer, seed) for name, tensor in model.state_dict().items()})
    return model


def _weight(name: str, tensor: Tensor, tokenizer: Any, seed: int) -> Tensor:
    if tensor.ndim == 1:
        return torch.ones_like(tensor)
    if name == "embed_tokens.weight":
        return _tokens(tokenizer, tensor.shape[1], seed)
    gain = 0.5 if name.endswith(("o_proj.weight", "down_proj.weight")) else 1.0
    return gain / math.sqrt(tensor.shape[1]) * normal(tuple(tensor.shape), seed, "qwen", name)


def _tokens(tokenizer: Any, width: int, seed: int) -> Tensor:
    """Embedding `[V, width]`, unit scale, each row drawn from the token's text without case and leading space."""
    rows = []
    for token in tokenizer.convert_ids_to_tokens(range(len(tokenizer))):
        rows.append(normal((width,), seed, "qwen", "token", token.removeprefix("Ġ").lower()))
    return torch.stack(rows)

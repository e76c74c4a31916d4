"""Small text encoders with designed random weights: nothing to download. Knows SD3's text path; reads no file.

Nothing is trained here, so the weights are arranged to keep what a backbone needs easy to read:
- every token has its own random direction, drawn from its text (adding a word to the list moves no other word);
- layer one attends to the token before, so the state of `hair` in `blue hair` holds both words, and their conjunction through
  a random hidden layer; the T5 also attends to the token after and to all tokens;
- CLIP's layer two attends uniformly with a strong value path, so the end token, from which the pooled vector is read, is a
  random projection of the bag of words.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, T5Config, T5EncoderModel

from ...core.errors import ConfigError
from ...core.seed import normal
from ..tiny_tokenizers import END, clip_tokenizer, t5_tokenizer
from .encoders import T5, Clip
from .t5_length import T5Length
from .text_tower import SD3TextTower

HEAD = 16
# Four waves whose mean cosine is 1 at distance 0 and at most 0.54 at distances 1 to 79, so a query can name one position.
WAVES = (0.31098397, 0.51423178, 0.88524703, 2.92049605)
PLACES = 2 * len(WAVES)  # channels that hold the position, free of content


def tiny_tower(
    words: Sequence[str],
    *,
    joint_dim: int = 128,
    clip_length: int = 40,
    clip_chunks: int = 1,
    t5_length: T5Length | None = None,
    with_t5: bool = True,
    seed: int = 0,
    row_dtype: torch.dtype = torch.bfloat16,
) -> SD3TextTower:
    """Tower whose pooled vector has `joint_dim` numbers: CLIP-L takes about three eighths of the width, CLIP-G the rest.

    Args:
        words: the vocabulary; each of them becomes one token.
        joint_dim: width of T5 and of both CLIPs together, a multiple of 16 and at least 48.
    """
    if joint_dim % HEAD or joint_dim < 3 * HEAD:
        raise ConfigError(
            f"joint width {joint_dim} is not a multiple of {HEAD} from {3 * HEAD} on",
            where="model.joint_attention_dim",
            do="use 128",
        )
    length = t5_length or T5Length(length=clip_length, minimum=clip_length, maximum=2 * clip_length)
    tokenizer = clip_tokenizer(words, length=clip_length)
    width_l = joint_dim * 3 // 8 // HEAD * HEAD
    clip_l = Clip(_clip(tokenizer, width_l, clip_length, seed, "clip_l"), tokenizer)
    clip_g = Clip(_clip(tokenizer, joint_dim - width_l, clip_length, seed, "clip_g"), tokenizer)
    t5 = None
    if with_t5:
        tokenizer_3 = t5_tokenizer(words, length=length.limit)
        t5 = T5(_t5(tokenizer_3, joint_dim, seed), tokenizer_3, length=length)
    return SD3TextTower(
        clip_l, clip_g, t5, joint_dim=joint_dim, t5_length=length, clip_chunks=clip_chunks, row_dtype=row_dtype
    )


def _clip(tokenizer: Any, width: int, length: int, seed: int, name: str) -> CLIPTextModelWithProjection:
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        projection_dim=width,
        num_hidden_layers=2,
        num_attention_heads=width // HEAD,
        max_position_embeddings=length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        model = CLIPTextModelWithProjection(config)
    state = {key: torch.zeros_like(value) for key, value in model.state_dict().items()}
    state |= {
        key: torch.ones_like(value)
        for key, value in state.items()
        if key.endswith(("norm1.weight", "norm2.weight", "norm.weight"))
    }
    embeddings = "text_model.embeddings"
    content = width - PLACES
    tokens = _tokens(tokenizer, content, seed, name)
    state[f"{embeddings}.token_embedding.weight"] = torch.cat([torch.zeros(len(tokens), PLACES), tokens], dim=1)
    state[f"{embeddings}.position_embedding.weight"][:, :PLACES] = _places(length)
    state |= _look_back("text_model.encoder.layers.0", width, seed, name)
    state |= _conjunctions("text_model.encoder.layers.0.mlp", width, seed, name)
    last = "text_model.encoder.layers.1.self_attn"
    state[f"{last}.v_proj.weight"] = _rotation(width, seed, name, "pool in")
    state[f"{last}.out_proj.weight"] = 8 * _rotation(width, seed, name, "pool out")
    # CLIP-L's pooled state is not projected in ComfyUI, so its projection has to be the identity.
    state["text_projection.weight"] = (
        torch.eye(width) if name == "clip_l" else _rotation(width, seed, name, "projection")
    )
    model.load_state_dict(state)
    return model


def _look_back(layer: str, width: int, seed: int, name: str) -> dict[str, Tensor]:
    """Attention in which every head finds the token before by its place, and adds its content, rotated, at 0.7."""
    heads = width // HEAD
    query, key = torch.zeros(heads, HEAD, width), torch.zeros(heads, HEAD, width)
    key[:, :PLACES, :PLACES] = torch.eye(PLACES)
    for wave, frequency in enumerate(WAVES):  # rotate every wave back by one place
        c, s = math.cos(frequency), math.sin(frequency)
        query[:, 2 * wave : 2 * wave + 2, 2 * wave : 2 * wave + 2] = 40 * torch.tensor([[c, s], [-s, c]])
    value, out = torch.zeros(width, width), torch.zeros(width, width)
    content = width - PLACES
    value[:content, PLACES:] = torch.eye(content)
    out[PLACES:, :content] = 0.7 * _rotation(content, seed, name, "look back")
    parts = {"q_proj": query.flatten(0, 1), "k_proj": key.flatten(0, 1), "v_proj": value, "out_proj": out}
    return {f"{layer}.self_attn.{part}.weight": tensor for part, tensor in parts.items()}


def _conjunctions(mlp: str, width: int, seed: int, name: str) -> dict[str, Tensor]:
    """A random hidden layer: its kinks tell `blue hair, red eyes` from `red hair, blue eyes` even in the pooled sum."""
    rise = 1.5 / math.sqrt(width) * normal((2 * width, width), seed, name, "conjunctions in")
    fall = 0.7 / math.sqrt(width) * normal((width, 2 * width), seed, name, "conjunctions out")
    fall[:PLACES] = 0
    return {f"{mlp}.fc1.weight": rise, f"{mlp}.fc2.weight": fall}


def _t5(tokenizer: Any, width: int, seed: int) -> T5EncoderModel:
    heads = width // HEAD
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=width,
        d_kv=HEAD,
        d_ff=2 * width,
        num_layers=1,
        num_heads=heads,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        model = T5EncoderModel(config)
    state = {key: torch.zeros_like(value) for key, value in model.state_dict().items()}
    state |= {key: torch.ones_like(value) for key, value in state.items() if key.endswith("norm.weight")}
    tokens = _tokens(tokenizer, width, seed, "t5")
    state |= {key: tokens for key in ("shared.weight", "encoder.embed_tokens.weight") if key in state}
    attention, dense = "encoder.block.0.layer.0.SelfAttention", "encoder.block.0.layer.1.DenseReluDense"
    bias = state[f"{attention}.relative_attention_bias.weight"]
    before, after = 1, config.relative_attention_num_buckets // 2 + 1  # T5's buckets of distances -1 and +1
    bias[before, : heads // 2] = 20
    bias[after, heads // 2 : heads * 3 // 4] = 20
    state[f"{attention}.v.weight"] = _rotation(width, seed, "t5", "value")
    state[f"{attention}.o.weight"] = 0.7 * _rotation(width, seed, "t5", "out")
    for part, rows, columns, gain in (
        ("wi_0", 2 * width, width, 1),
        ("wi_1", 2 * width, width, 1),
        ("wo", width, 2 * width, 0.5),
    ):
        state[f"{dense}.{part}.weight"] = gain / math.sqrt(columns) * normal((rows, columns), seed, "t5", part)
    model.load_state_dict(state)
    return model


def _tokens(tokenizer: Any, width: int, seed: int, name: str) -> Tensor:
    """Embedding `[V, width]`, unit scale, each row drawn from the token's text without case and word marks."""
    rows = []
    for token in tokenizer.convert_ids_to_tokens(range(len(tokenizer))):
        text = token.removesuffix(END).removeprefix("▁").lower()
        direction = normal((width,), seed, name, "token", text)
        rows.append((direction - direction.mean()) / direction.std(correction=0))
    return torch.stack(rows)


def _places(length: int) -> Tensor:
    """`[length, PLACES]`: cosine and sine of every wave at every position."""
    angles = torch.arange(length)[:, None] * torch.tensor(WAVES)[None, :]
    return torch.stack([angles.cos(), angles.sin()], dim=-1).flatten(1)


def _rotation(width: int, *parts: int | str) -> Tensor:
    """A random orthogonal matrix up to rounding, `[width, width]`."""
    return torch.linalg.qr(normal((width, width), *parts).double())[0].float()

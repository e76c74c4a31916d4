"""FLOP of one picture through adapter and DiT, in closed form. Knows sizes; knows no tensor.

n image tokens, t tokens of the caption (of Qwen and of T5 alike), d the width. A block of the DiT reads the picture with 28 n d^2:
attention over the picture 8, queries and output of the attention to the text 4, MLP 16. The text it looks at is never shorter than
the floor, whose zeros are computed like any other token.
"""

from __future__ import annotations

from ..work import AttentionCall, Work, linear
from . import CELL
from .shapes import Shape


def work(shape: Shape, *, height: int, width: int, text_tokens: int, adapter: str = "freeze", rank: int = 16) -> Work:
    """Of a picture of `height` x `width` pixels with a caption of `text_tokens` tokens.

    Args:
        adapter: what of it learns. A frozen one is computed forward only: no gradient passes through it, nor through the DiT's keys
            and values of the text, whose weights alone have one. A LoRA of `rank` adds its own products and spares those of the
            weights beneath.
    """
    n, d = (height // CELL) * (width // CELL), shape.width
    seen = max(shape.text_floor, text_tokens)
    patch, blocks, low = shape.patch_size**2, shape.num_layers, shape.adaln_lora_dim
    # What reads the batch itself needs no gradient of its input; the extra channel is the padding mask.
    readers = linear(n, (shape.channels + 1) * patch, d) + linear(1, d, d)
    time = linear(1, d, 3 * d)
    picture = blocks * 14 * linear(n, d, d)
    text = blocks * 2 * linear(seen, shape.text_dim, d)
    modulations = blocks * 3 * (linear(1, d, low) + linear(1, low, 3 * d)) + linear(1, d, low) + linear(1, low, 2 * d)
    last = linear(n, d, shape.channels * patch)
    heads, head_dim = shape.num_attention_heads, shape.attention_head_dim
    before, from_qwen = _adapter(shape, text_tokens), _from_qwen(shape, text_tokens)
    added = 0.0
    if adapter == "freeze":
        spared = 2 * before.forward + text
    elif adapter == "train":
        spared = from_qwen
    else:
        added, first = _lora(shape, text_tokens, rank)
        spared = before.linear + from_qwen + first
    return Work(
        linear=readers + time + picture + text + modulations + last + before.linear + added,
        attention=(
            AttentionCall(heads, head_dim, queries=n, keys=n, layers=blocks),
            AttentionCall(heads, head_dim, queries=n, keys=seen, layers=blocks),
            *before.attention,
        ),
        spared=readers + spared,
    )


def _adapter(shape: Shape, t: int) -> Work:
    """Forward: per layer attention over T5's tokens, attention to Qwen's, MLP."""
    width = shape.adapter_dim
    layer = 4 * linear(t, width, width) + 2 * linear(t, width, width) + 2 * linear(t, shape.qwen_dim, width)
    layer += 2 * linear(t, width, 4 * width)
    ends = linear(t, width, shape.text_dim) * (1 if shape.text_dim == width else 2)
    heads, layers = shape.adapter_heads, shape.adapter_layers
    both = AttentionCall(heads, width // heads, queries=t, keys=t, layers=2 * layers)
    return Work(linear=layers * layer + ends, attention=(both,))


def _from_qwen(shape: Shape, t: int) -> float:
    """Of keys and values of what Qwen says, which is given: it has no gradient."""
    return shape.adapter_layers * 2 * linear(t, shape.qwen_dim, shape.adapter_dim)


def _lora(shape: Shape, t: int, rank: int) -> tuple[float, float]:
    """Of the two thin products beside every linear layer of the adapter; and what is spared because the first layer, and the keys
    and values of Qwen's states, read what nothing trainable made."""
    width, qwen, layers = shape.adapter_dim, shape.qwen_dim, shape.adapter_layers
    channels = 6 * (width + width) + 2 * (qwen + width) + 2 * (width + 4 * width)
    ends = (width + shape.text_dim) * (1 if shape.text_dim == width else 2)
    first = 3 * (linear(t, width, width) + linear(t, width, rank)) + layers * 2 * linear(t, qwen, rank)
    return linear(t, layers * channels + ends, rank), first

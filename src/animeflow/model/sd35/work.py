"""FLOP of one picture through the MMDiT, in closed form. Knows sizes; knows no tensor.

n image tokens, t text tokens, d the width. A block reads the picture with 24 n d^2 (queries, keys, values, output 8, MLP 16), the
text with 24 t d^2, both in one attention over n + t; a dual block looks at the picture once more. In the last block the text only
asks and is asked: nobody reads what comes of it.
"""

from __future__ import annotations

from ..work import AttentionCall, Work, linear
from . import CELL
from .shapes import Shape

WAVES = 256  # features of t before the first linear layer (diffusers' `CombinedTimestepTextProjEmbeddings`)


def work(shape: Shape, *, height: int, width: int, text_tokens: int) -> Work:
    """Of a picture of `height` x `width` pixels with `text_tokens` tokens, padding among them: it is computed like any other."""
    n, t, d = (height // CELL) * (width // CELL), text_tokens, shape.width
    blocks, dual = shape.num_layers, len(shape.dual_attention_layers)
    patch = shape.patch_size**2
    # What reads the batch itself needs no gradient of its input.
    readers = (
        linear(n, shape.in_channels * patch, d)
        + linear(t, shape.joint_attention_dim, d)
        + linear(1, WAVES, d)
        + linear(1, shape.pooled_projection_dim, d)
    )
    embedders = readers + 2 * linear(1, d, d)
    picture = blocks * 12 * linear(n, d, d) + dual * 4 * linear(n, d, d)
    text = (blocks - 1) * 12 * linear(t, d, d) + 3 * linear(t, d, d)
    modulations = (6 * (blocks - dual) + 9 * dual + 6 * (blocks - 1) + 2 + 2) * linear(1, d, d)
    last = linear(n, d, shape.out_channels * patch)
    heads, head_dim = shape.num_attention_heads, shape.attention_head_dim
    joint = AttentionCall(heads, head_dim, queries=n + t, keys=n + t, layers=blocks)
    second = AttentionCall(heads, head_dim, queries=n, keys=n, layers=dual)
    return Work(
        linear=embedders + picture + text + modulations + last,
        attention=(joint, second) if dual else (joint,),
        spared=readers,
    )

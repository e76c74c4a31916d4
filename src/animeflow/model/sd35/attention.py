"""Joint attention of picture and text tokens that can leave out padded text. Knows diffusers' `Attention`; knows no family."""

from __future__ import annotations

import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor
from torch.nn import functional as F


class MaskedJointAttention:
    """Attention processor for SD3's blocks, equal to diffusers' own when no mask is given.

    A padded text token still asks (nobody reads its answer) but is never looked at, so what a row of a batch sees does not
    depend on how long the other rows are.
    """

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        visible: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Picture tokens `[B, S, D]` and text tokens `[B, L, D]` look at both; `visible` `[B, 1, 1, S + L]` is False at padding.

        Without text (the second attention of a dual block) picture tokens look at picture tokens only, and no mask applies.

        Under autocast the norms give float32. Queries and keys go to the dtype of the values before they are joined, which is
        what attention would do with them later, on twice the memory.
        """
        x_BSD, c_BLD = hidden_states, encoder_hidden_states
        q, k, v = attn.to_q(x_BSD), attn.to_k(x_BSD), attn.to_v(x_BSD)
        q, k, v = (_heads(part, attn.heads) for part in (q, k, v))
        q, k = _norm(attn.norm_q, q).to(v.dtype), _norm(attn.norm_k, k).to(v.dtype)
        if c_BLD is not None:
            cq, ck, cv = attn.add_q_proj(c_BLD), attn.add_k_proj(c_BLD), attn.add_v_proj(c_BLD)
            cq, ck, cv = (_heads(part, attn.heads) for part in (cq, ck, cv))
            cq, ck = _norm(attn.norm_added_q, cq).to(v.dtype), _norm(attn.norm_added_k, ck).to(v.dtype)
            q, k, v = (torch.cat(pair, dim=2) for pair in ((q, cq), (k, ck), (v, cv)))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=visible if c_BLD is not None else None)
        y = y.transpose(1, 2).flatten(2)
        # Contiguous, because a linear layer adds its bias in the same kernel then, and rounds once.
        picture_y, text_y = y[:, : x_BSD.shape[1]].contiguous(), y[:, x_BSD.shape[1] :].contiguous()
        picture_y = attn.to_out[1](attn.to_out[0](picture_y))
        if c_BLD is None:
            return picture_y
        return picture_y, text_y if attn.context_pre_only else attn.to_add_out(text_y)


def _heads(x_BLD: Tensor, heads: int) -> Tensor:
    """`[B, L, N*d]` -> `[B, N, L, d]`."""
    return x_BLD.unflatten(-1, (heads, -1)).transpose(1, 2)


def _norm(norm: torch.nn.Module | None, x: Tensor) -> Tensor:
    return x if norm is None else norm(x)

"""Attention of Anima's blocks: picture tokens turned by their place look at each other, or at the text. Knows no block.

Equal to diffusers' own processor for these blocks, without the copies that one makes for models with fewer keys than queries,
and with queries and keys brought to the dtype of the values before attention instead of inside it.
"""

from __future__ import annotations

import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor
from torch.nn import functional as F

Tables = tuple[Tensor, Tensor]
"""Cosine and sine of every token's angles, float32 `[S, d]` each; the halves of a head turn against each other."""


class TurnedAttention:
    """Attention processor for Cosmos blocks."""

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_rotary_emb: Tables | None = None,
    ) -> Tensor:
        """`hidden_states` `[B, S, D]` look at `encoder_hidden_states` `[B, L, D']`, or at themselves."""
        seen_BLD = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        parts = attn.to_q(hidden_states), attn.to_k(seen_BLD), attn.to_v(seen_BLD)
        q, k, v = (part.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for part in parts)
        q, k = attn.norm_q(q), attn.norm_k(k)
        if image_rotary_emb is not None:
            q, k = turned(q, image_rotary_emb), turned(k, image_rotary_emb)
        y = F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v, attn_mask=attention_mask)
        return attn.to_out[1](attn.to_out[0](y.transpose(1, 2).flatten(2)))


def turned(x_BNSd: Tensor, tables: Tables) -> Tensor:
    """Every pair of channels turned by its token's angle, in float32, returned in the dtype of `x`."""
    cos_Sd, sin_Sd = tables
    x = x_BNSd.float()
    first, second = x.chunk(2, dim=-1)
    return (x * cos_Sd + torch.cat([-second, first], dim=-1) * sin_Sd).to(x_BNSd.dtype)


class Turns:
    """Tables for pictures of any size, put together from one row of angles per axis that is computed once.

    Angles are diffusers' (`CosmosRotaryPosEmbed`): a head's pairs are split between time, height and width, and each axis has
    its own base. One picture is one frame, so time turns nothing.
    """

    def __init__(self, head: int, *, places: int, scale: tuple[float, float, float]) -> None:
        self._height = self._width = head // 6 * 2
        self._time = head - self._height - self._width
        self._places, self._scale = places, scale
        self._axes: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def __call__(self, height: int, width: int, device: torch.device) -> Tables:
        """For `height * width` tokens in the order of reading."""
        if device not in self._axes:
            # Sampling runs in inference mode, whose tensors the backward pass of training must not meet.
            with torch.inference_mode(False):
                self._axes[device] = self._angles(self._height, 1, device), self._angles(self._width, 2, device)
        rows, columns = self._axes[device]
        tables = [self._table(turn(rows), turn(columns), height, width) for turn in (torch.cos, torch.sin)]
        still = self._time // 2  # cos 0 = 1, sin 0 = 0
        ones, zeros = tables[0].new_ones(height * width, still), tables[1].new_zeros(height * width, still)
        cos, sin = torch.cat([ones, tables[0]], dim=1), torch.cat([zeros, tables[1]], dim=1)
        return torch.cat([cos, cos], dim=1), torch.cat([sin, sin], dim=1)

    def _angles(self, channels: int, axis: int, device: torch.device) -> Tensor:
        base = 10000.0 * self._scale[axis] ** (channels / (channels - 2))
        share = torch.arange(0, channels, 2, device=device, dtype=torch.float32) / channels
        return torch.outer(torch.arange(self._places, device=device, dtype=torch.float32), 1.0 / base**share)

    @staticmethod
    def _table(rows: Tensor, columns: Tensor, height: int, width: int) -> Tensor:
        down = rows[:height, None].expand(-1, width, -1)
        across = columns[None, :width].expand(height, -1, -1)
        return torch.cat([down, across], dim=-1).flatten(0, 1)

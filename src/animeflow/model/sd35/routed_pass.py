"""SD3.5's forward pass in which tokens of the picture pass inner blocks by. Knows diffusers' network; knows no Conditioning.

diffusers has the loop over blocks inside its own `forward`, with no place to enter it, and what is put around single blocks would
be compiled and sharded with them. So this is that `forward` once more, for training alone and without what training does not use;
sampling, validation and training without routing go through diffusers' own. Where all tokens stay it gives the same, bit for bit.
"""

from __future__ import annotations

import torch
from diffusers import SD3Transformer2DModel
from torch import Tensor

from ..routing import Route, routed


def routed_pass(
    net: SD3Transformer2DModel,
    route: Route,
    staying_BK: Tensor,
    *,
    x_BChw: Tensor,
    text_BLD: Tensor,
    pooled_BP: Tensor,
    timestep_B: Tensor,
    text_mask_BL: Tensor | None,
) -> Tensor:
    """What `net` says, `[B, C, h, w]`, with the tokens `staying_BK` alone inside. Positions are added before the blocks, so they
    travel with their tokens. `text_mask_BL` is False at padding."""
    blocks = net.transformer_blocks
    inner = route.blocks(len(blocks))
    height, width = (side // net.config.patch_size for side in x_BChw.shape[-2:])
    x_BSD = net.pos_embed(x_BChw).contiguous()
    time_BD = net.time_text_embed(timestep_B, pooled_BP)
    text_BLD = net.context_embedder(text_BLD)

    def through(x_BSD: Tensor, numbers: range) -> Tensor:
        nonlocal text_BLD
        kwargs = attention_kwargs(text_mask_BL, tokens=x_BSD.shape[1])
        for number in numbers:
            text_BLD, x_BSD = blocks[number](
                hidden_states=x_BSD, encoder_hidden_states=text_BLD, temb=time_BD, joint_attention_kwargs=kwargs
            )
        return x_BSD

    x_BSD = through(x_BSD, range(inner.start))
    x_BSD = routed(x_BSD, staying_BK, lambda kept_BKD: through(kept_BKD, inner))
    x_BSD = through(x_BSD, range(inner.stop, len(blocks)))
    x_BSD = net.proj_out(net.norm_out(x_BSD, time_BD))
    x_BhwpqC = x_BSD.unflatten(2, (net.config.patch_size, net.config.patch_size, -1)).unflatten(1, (height, width))
    return torch.einsum("nhwpqc->nchpwq", x_BhwpqC).flatten(4, 5).flatten(2, 3)


def attention_kwargs(text_mask_BL: Tensor | None, *, tokens: int) -> dict[str, Tensor] | None:
    """Which tokens may be looked at, bool `[B, 1, 1, S + L]`: every one of the picture's `tokens`, and the text's real ones. The
    same in all blocks, so made once."""
    if text_mask_BL is None:
        return None
    picture_BS = text_mask_BL.new_ones(text_mask_BL.shape[0], tokens)
    return {"visible": torch.cat([picture_BS, text_mask_BL], dim=1)[:, None, None, :]}

"""What a measurement needs of SD3.5: the network as diffusers runs it, and inputs without codec and encoders. Knows no clock."""

from __future__ import annotations

import torch
from diffusers import SD3Transformer2DModel
from torch import Tensor, nn

from ...core.conditioning import Conditioning
from ...core.seed import generator
from . import CELL
from .backbone import TIMESTEPS, Backbone
from .shapes import Shape


class Stock(nn.Module):
    """diffusers' `SD3Transformer2DModel` with its own attention, on a copy of a backbone's weights. It masks no text."""

    def __init__(self, backbone: Backbone, shape: Shape) -> None:
        super().__init__()
        with torch.device("meta"):
            self.net = SD3Transformer2DModel(**shape.config())
        state = {name: tensor.clone() for name, tensor in backbone.export_state().items()}
        self.net.load_state_dict(state, assign=True)

    def forward(self, x_BChw: Tensor, t_B: Tensor, cond: Conditioning) -> Tensor:
        v_BChw = self.net(
            hidden_states=x_BChw,
            encoder_hidden_states=cond["text"],
            pooled_projections=cond["pooled"],
            timestep=TIMESTEPS * t_B,
            return_dict=False,
        )[0]
        return v_BChw.float()


def random_latents(shape: Shape, count: int, *, height: int, width: int, seed: int) -> Tensor:
    """Of `count` pictures of so many pixels, of unit scale."""
    cells = (side * shape.patch_size // CELL for side in (height, width))
    return torch.randn(
        count, shape.in_channels, *cells, generator=generator(seed, "random latents", count, height, width)
    )


def random_text(shape: Shape, count: int, *, tokens: int, seed: int) -> Conditioning:
    """Conditioning of `count` prompts of so many tokens, of unit scale; it says nothing and costs what a real one costs."""
    draw = generator(seed, "random text", count, tokens)
    return Conditioning(
        {
            "text": torch.randn(count, tokens, shape.joint_attention_dim, generator=draw),
            "pooled": torch.randn(count, shape.pooled_projection_dim, generator=draw),
        }
    )

"""What a measurement needs of Anima: both networks as diffusers runs them, and inputs without codec and encoder. No clock."""

from __future__ import annotations

import copy

import torch
from diffusers import AnimaTextConditioner, CosmosTransformer3DModel
from torch import Tensor, nn

from ...core.conditioning import Conditioning
from ...core.seed import generator
from . import CELL
from .backbone import Backbone
from .keymap import CONDITIONER, TRANSFORMER
from .shapes import Shape


class Stock(nn.Module):
    """diffusers' `CosmosTransformer3DModel` and `AnimaTextConditioner` on a copy of a backbone's weights, a LoRA merged in.

    The padding mask, a channel of zeros, is given to the network as a part of its input: it would want torchvision to make one.
    """

    def __init__(self, backbone: Backbone, shape: Shape) -> None:
        super().__init__()
        config = shape.transformer_config()
        config |= {"in_channels": shape.channels + 1, "out_channels": shape.channels, "concat_padding_mask": False}
        with torch.device("meta"):
            self.net = CosmosTransformer3DModel(**config)
            self.adapter = AnimaTextConditioner(**shape.conditioner_config())
        state = backbone.export_state()
        for module, prefix in ((self.net, TRANSFORMER), (self.adapter, CONDITIONER)):
            part = {k.removeprefix(prefix): v.clone() for k, v in state.items() if k.startswith(prefix)}
            module.load_state_dict(part, assign=True)
        self.adapter.rotary_emb = copy.deepcopy(backbone.adapter.rotary_emb)  # its speeds are in no state
        self.adapter.requires_grad_(backbone.adapter.norm.weight.requires_grad)

    def forward(self, x_BChw: Tensor, t_B: Tensor, cond: Conditioning) -> Tensor:
        text_BLD = self.adapter(
            source_hidden_states=cond["qwen"],
            target_input_ids=cond["t5_ids"],
            target_attention_mask=cond["t5_mask"],
            source_attention_mask=cond["qwen_mask"],
        )
        x_BChw = torch.cat([x_BChw, torch.zeros_like(x_BChw[:, :1])], dim=1)
        v_BC1hw = self.net(
            hidden_states=x_BChw[:, :, None], timestep=t_B, encoder_hidden_states=text_BLD, return_dict=False
        )[0]
        return v_BC1hw[:, :, 0].float()


def random_latents(shape: Shape, count: int, *, height: int, width: int, seed: int) -> Tensor:
    """Of `count` pictures of so many pixels, of unit scale."""
    cells = (side * shape.patch_size // CELL for side in (height, width))
    return torch.randn(count, shape.channels, *cells, generator=generator(seed, "random latents", count, height, width))


def random_text(shape: Shape, count: int, *, tokens: int, seed: int) -> Conditioning:
    """Conditioning of `count` prompts of so many tokens of both kinds; it says nothing and costs what a real one costs."""
    draw = generator(seed, "random text", count, tokens)
    real = torch.ones(count, tokens, dtype=torch.bool)
    return Conditioning(
        {
            "qwen": torch.randn(count, tokens, shape.qwen_dim, generator=draw),
            "qwen_mask": real,
            "t5_ids": torch.randint(shape.vocabulary_size, (count, tokens), generator=draw, dtype=torch.int32),
            "t5_mask": real.clone(),
        }
    )

"""Both families' tiny networks and their batches of any size, for the tests of speed."""

from __future__ import annotations

import torch
from contract import stir
from torch import Tensor, nn

from animeflow.core import seed
from animeflow.core.conditioning import Conditioning
from animeflow.model.anima import backbone as anima
from animeflow.model.anima.shapes import shape as anima_shape
from animeflow.model.sd35 import backbone as sd35
from animeflow.model.sd35.shapes import shape as sd35_shape

FAMILIES = ("sd35", "anima")
KINDS = {"sd35": 3, "anima": 1}  # of blocks: with two attentions, with one, the last; all alike

Inputs = tuple[Tensor, Tensor, Conditioning]


def network(family: str) -> nn.Module:
    """Every kind of block that the real flavour has, and one of them twice."""
    if family == "sd35":
        return stir(sd35.Backbone.random(sd35_shape("tiny", num_layers=4, dual_attention_layers=(0, 1)), seed=0))
    return stir(anima.Backbone.random(anima_shape("tiny", num_layers=2), seed=0))


def on_meta(family: str, flavour: str = "tiny") -> nn.Module:
    with torch.device("meta"):
        if family == "sd35":
            return sd35.Backbone(sd35.SD3Transformer2DModel(**sd35_shape(flavour).config()))
        shape = anima_shape(flavour)
        return anima.Backbone(
            anima.CosmosTransformer3DModel(**shape.transformer_config()),
            anima.AnimaTextConditioner(**shape.conditioner_config()),
        )


def batch(
    family: str, *, pictures: int, size: tuple[int, int] = (8, 12), tokens: int = 9, masked: bool = False
) -> Inputs:
    """Rows whose captions end earlier from row to row; `masked` has SD3.5 told so. `size`: latent cells."""
    shown = torch.arange(tokens)[None] < torch.tensor([max(1, tokens - 2 * row) for row in range(pictures)])[:, None]
    if family == "sd35":
        cond = {"text": seed.normal((pictures, tokens, 128), 0, "text"), "pooled": seed.normal((pictures, 128), 0, "p")}
        cond |= {"text_mask": shown} if masked else {}
    else:
        ids = torch.arange(pictures * tokens).reshape(pictures, tokens).int() + 1
        cond = {
            "qwen": seed.normal((pictures, 7, 64), 0, "qwen"),
            "qwen_mask": torch.ones(pictures, 7, dtype=torch.bool),
        }
        cond |= {"t5_ids": ids, "t5_mask": shown}
    return seed.normal((pictures, 16, *size), 0, "x"), torch.linspace(0.05, 0.95, pictures), Conditioning(cond)


def passes(backbone: nn.Module, inputs: Inputs) -> tuple[Tensor, dict[str, Tensor]]:
    """Velocity and gradients of its mean square."""
    backbone.zero_grad()
    velocity = backbone(*inputs)
    velocity.square().mean().backward()
    return velocity.detach(), {name: p.grad for name, p in backbone.named_parameters() if p.grad is not None}

"""SD3.5's MMDiT behind our conventions: t in [0, 1], velocity out. Knows diffusers' network; knows no recipe and no file.

The network itself is diffusers' `SD3Transformer2DModel`, held as `net`. Whatever leaves this module as a file or an average
uses diffusers' own names (no `net.` in front): `export_state` and `load_export_state`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from diffusers import SD3Transformer2DModel
from torch import Tensor, nn

from ...core.conditioning import Conditioning
from ...core.errors import ConfigError
from ...core.seed import generator
from ..state import check_state
from .attention import MaskedJointAttention
from .shapes import Shape

TIMESTEPS = 1000  # SD3 was trained with t counted in thousandths


class Backbone(nn.Module):
    """Velocity of SD3.5. Reads `cond["text"]` `[B, L, joint]`, `cond["pooled"]` `[B, P]`, and `cond["text_mask"]` (bool `[B, L]`)
    where captions of one batch differ in length."""

    def __init__(self, net: SD3Transformer2DModel) -> None:
        super().__init__()
        net.set_attn_processor(MaskedJointAttention())
        self.net = net

    @classmethod
    def random(cls, shape: Shape, *, seed: int) -> Backbone:
        """Weights for training from nothing, equal on every machine for one seed."""
        with torch.random.fork_rng(devices=[]):  # diffusers draws while it builds; those draws are replaced below
            net = SD3Transformer2DModel(**shape.config())
        initialise(net, seed=seed)
        return cls(net)

    @classmethod
    def from_state(cls, shape: Shape, state: Mapping[str, Tensor], *, where: str | None = None) -> Backbone:
        """Float32 weights from a state under diffusers' names; memory for one copy only."""
        with torch.device("meta"):
            net = SD3Transformer2DModel(**shape.config())
        check_state(net.state_dict(), state, where=where)
        net.load_state_dict({name: tensor.float() for name, tensor in state.items()}, assign=True)
        return cls(net)

    def forward(self, x_BChw: Tensor, t_B: Tensor, cond: Conditioning) -> Tensor:
        """Latents `[B, C, h, w]` at noise level `t_B` in [0, 1] (float32, 1 = noise) -> velocity `[B, C, h, w]`, float32."""
        self._check(x_BChw)
        dtype = self.net.proj_out.weight.dtype
        visible = self._visible(x_BChw, cond.get("text_mask"))
        v_BChw = self.net(
            hidden_states=x_BChw.to(dtype),
            encoder_hidden_states=cond["text"].to(dtype),
            pooled_projections=cond["pooled"].to(dtype),
            timestep=TIMESTEPS * t_B.float(),  # never in bf16: 981/1000 would become 980/1000
            joint_attention_kwargs={"visible": visible} if visible is not None else None,
            return_dict=False,
        )[0]
        return v_BChw.float()

    def blocks(self) -> list[nn.Module]:
        """The transformer blocks in order, for compilation and sharding."""
        return list(self.net.transformer_blocks)

    def export_state(self) -> dict[str, Tensor]:
        """Weights and the position table under diffusers' names, detached, sharing memory with the network."""
        return {name: tensor.detach() for name, tensor in self.net.state_dict().items()}

    def load_export_state(self, state: Mapping[str, Tensor], *, where: str | None = None) -> None:
        """Copy in what `export_state` gave.

        Raises:
            DataError: a name is missing, unknown, or has another shape; nothing has been loaded then.
        """
        check_state(self.net.state_dict(), state, where=where)
        self.net.load_state_dict(dict(state))

    def _visible(self, x_BChw: Tensor, text_mask_BL: Tensor | None) -> Tensor | None:
        """Which tokens may be looked at, bool `[B, 1, 1, S + L]`: every one of the picture, and the text's real ones. The same
        in all blocks, so made once."""
        if text_mask_BL is None:
            return None
        patch = self.net.config.patch_size
        tokens = (x_BChw.shape[-2] // patch) * (x_BChw.shape[-1] // patch)
        picture_BS = text_mask_BL.new_ones(x_BChw.shape[0], tokens)
        return torch.cat([picture_BS, text_mask_BL], dim=1)[:, None, None, :]

    def _check(self, x_BChw: Tensor) -> None:
        patch, cells = self.net.config.patch_size, self.net.config.pos_embed_max_size
        height, width = x_BChw.shape[-2:]
        if height % patch or width % patch or max(height, width) > patch * cells:
            raise ConfigError(
                f"latents of {height}x{width} cells do not fit a network with patches of {patch}x{patch} cells and a position "
                f"table of {cells}x{cells} patches",
                do=f"use sides that are multiples of {patch} and at most {patch * cells}, or raise model.pos_embed_max_size",
            )


@torch.no_grad()
def initialise(net: SD3Transformer2DModel, *, seed: int) -> None:
    """DiT's start (arXiv 2212.09748, 3.2 adaLN-Zero): every block is the identity and the velocity is zero.

    Linear layers Xavier uniform with zero bias, the patch convolution as if it were linear, time and pooled-text MLPs
    N(0, 0.02); modulations and the last layer zero. Each tensor is drawn from its own name, so the order does not matter.
    """
    for name, parameter in net.named_parameters():
        parameter.copy_(_start(name, parameter, seed))


def _start(name: str, parameter: Tensor, root: int) -> Tensor:
    draw = generator(root, "backbone", name)
    if name.endswith("bias"):
        return torch.zeros_like(parameter)
    if parameter.ndim == 1:  # gains of the query and key norms
        return torch.ones_like(parameter)
    if name == "proj_out.weight" or (".linear.weight" in name and "norm" in name):
        return torch.zeros_like(parameter)
    if name.startswith("time_text_embed."):
        return torch.normal(0.0, 0.02, parameter.shape, generator=draw)
    fan_out, fan_in = parameter.shape[0], parameter[0].numel()
    bound = (6 / (fan_in + fan_out)) ** 0.5
    return (2 * torch.rand(parameter.shape, generator=draw) - 1) * bound

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
from ..routing import Route
from ..state import check_state
from .attention import MaskedJointAttention
from .routed_pass import attention_kwargs, routed_pass
from .shapes import Shape

TIMESTEPS = 1000  # SD3 was trained with t counted in thousandths


class Backbone(nn.Module):
    """Velocity of SD3.5. Reads `cond["text"]` `[B, L, joint]`, `cond["pooled"]` `[B, P]`, and `cond["text_mask"]` (bool `[B, L]`)
    where captions of one batch differ in length."""

    def __init__(self, net: SD3Transformer2DModel) -> None:
        super().__init__()
        net.set_attn_processor(MaskedJointAttention())
        self.net = net
        self._route: Route | None = None

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
        dtype, mask = self.net.proj_out.weight.dtype, cond.get("text_mask")
        x, text, pooled = x_BChw.to(dtype), cond["text"].to(dtype), cond["pooled"].to(dtype)
        timestep = TIMESTEPS * t_B.float()  # never in bf16: 981/1000 would become 980/1000
        tokens = x_BChw.shape[-2] * x_BChw.shape[-1] // self.net.config.patch_size**2
        if self._route is not None and self.training and torch.is_grad_enabled():
            staying_BK = self._route.staying(x_BChw, t_B, tokens=tokens)
            return routed_pass(
                self.net,
                self._route,
                staying_BK,
                x_BChw=x,
                text_BLD=text,
                pooled_BP=pooled,
                timestep_B=timestep,
                text_mask_BL=mask,
            ).float()
        v_BChw = self.net(
            hidden_states=x,
            encoder_hidden_states=text,
            pooled_projections=pooled,
            timestep=timestep,
            joint_attention_kwargs=attention_kwargs(mask, tokens=tokens),
            return_dict=False,
        )[0]
        return v_BChw.float()

    def route(self, route: Route | None) -> None:
        """Which tokens of the picture pass which blocks by while it is trained. Raises ConfigError where there are none such."""
        if route is not None:
            route.blocks(len(self.net.transformer_blocks))
        self._route = route

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

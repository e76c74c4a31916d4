"""Anima's DiT and the adapter before it, behind our conventions: t in [0, 1], velocity out. Knows no recipe and no file.

The two networks are diffusers' own, `net` and `adapter`. Their weights leave this module under the names of a diffusers pipeline's
folders: `transformer.*` and `text_conditioner.*`. The forward pass over diffusers' blocks is ours for four reasons: theirs
needs torchvision to make an empty padding mask, it rounds the time embedding to the dtype of the activations,
it cannot leave out padding when captions longer than the floor meet shorter ones in a batch, and it computes every angle anew.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch
from diffusers import AnimaTextConditioner, CosmosTransformer3DModel
from torch import Tensor, nn
from torch.nn import functional as F

from ...core.conditioning import Conditioning
from ...core.errors import ConfigError
from ..routing import Route, routed, rows_of
from ..state import check_state
from .adapter import merged_state, set_mode
from .attention import Tables, TurnedAttention, Turns
from .keymap import CONDITIONER, TRANSFORMER
from .shapes import Shape
from .start import initialise

# Under autocast the adapter's norms have float32 gains and bf16 inputs. torch then takes its plain kernel, and says so.
warnings.filterwarnings("ignore", message="Mismatch dtype between input and weight", category=UserWarning)


class Backbone(nn.Module):
    """Velocity of Anima. Reads `cond["qwen"]` `[B, Lq, Dq]` with `cond["qwen_mask"]`, `cond["t5_ids"]` `[B, Lt]` with
    `cond["t5_mask"]`, and `cond["t5_weights"]` `[B, Lt]` where a prompt has emphasis. Masks are bool, True at real tokens."""

    def __init__(self, net: CosmosTransformer3DModel, adapter: AnimaTextConditioner) -> None:
        super().__init__()
        self.net, self.adapter = net, adapter
        for block in net.transformer_blocks:
            block.attn1.set_processor(TurnedAttention())
            block.attn2.set_processor(TurnedAttention())
        config = net.config
        self._turns = Turns(config.attention_head_dim, places=max(net.rope.max_size), scale=config.rope_scale)
        self._route: Route | None = None

    @classmethod
    def random(cls, shape: Shape, *, seed: int) -> Backbone:
        """Weights for training from nothing, equal on every machine for one seed."""
        with torch.random.fork_rng(devices=[]):  # diffusers draws while it builds; those draws are replaced below
            net = CosmosTransformer3DModel(**shape.transformer_config())
            adapter = AnimaTextConditioner(**shape.conditioner_config())
        initialise(net, adapter, seed=seed)
        return cls(net, adapter)

    @classmethod
    def from_state(cls, shape: Shape, state: Mapping[str, Tensor], *, where: str | None = None) -> Backbone:
        """Float32 weights from a state under the names of `export_state`: memory for one copy besides what is given."""
        with torch.device("meta"):
            net = CosmosTransformer3DModel(**shape.transformer_config())
            adapter = AnimaTextConditioner(**shape.conditioner_config())
        check_state(_joined(net.state_dict(), adapter.state_dict()), state, where=where)
        for module, prefix in ((net, TRANSFORMER), (adapter, CONDITIONER)):
            part = {k.removeprefix(prefix): v.float() for k, v in state.items() if k.startswith(prefix)}
            module.load_state_dict(part, assign=True)
        _fill_buffers(adapter, shape)
        return cls(net, adapter)

    def forward(self, x_BChw: Tensor, t_B: Tensor, cond: Conditioning) -> Tensor:
        """Latents `[B, C, h, w]` at noise level `t_B` in [0, 1] (float32, 1 = noise) -> velocity `[B, C, h, w]`, float32.

        Raises:
            ConfigError: the sides do not fit, or the arithmetic is float16.
        """
        self._check(x_BChw)
        text_BLD, visible_BL = self.text(cond)
        return self._velocity(x_BChw, t_B, text_BLD, visible_BL).float()

    def text(self, cond: Conditioning) -> tuple[Tensor, Tensor | None]:
        """What the DiT attends to, `[B, max(floor, Lt), D]`: the adapter's output, zeros after each caption's end. The second is a
        bool mask `[B, L]`, or None while no caption is longer than the floor.

        The zeros are not masked: the DiT was trained with them and rests its attention there. Only those that a longer caption
        in the same batch adds beyond the floor are hidden, so that a row never depends on the others."""
        dtype = self.adapter.norm.weight.dtype
        states, mask = cond["qwen"].to(dtype), cond["qwen_mask"]
        # A row without any token looks at one state that is zero, which gives exactly nothing (values have no bias); a softmax
        # over nothing is NaN in some attention kernels.
        first = torch.arange(mask.shape[1], device=mask.device) == 0
        mask = mask | (first & ~mask.any(dim=1, keepdim=True))
        text = self.adapter(
            source_hidden_states=states,
            target_input_ids=cond["t5_ids"],
            target_attention_mask=cond["t5_mask"],
            source_attention_mask=mask,
        )
        weights = cond.get("t5_weights")
        if weights is not None:  # ComfyUI's emphasis: features of a token times its weight
            padding = text.shape[1] - weights.shape[1]
            text = text * F.pad(weights, (0, padding), value=1.0).unsqueeze(-1).to(text.dtype)
        tokens, floor = cond["t5_ids"].shape[1], self.adapter.config.min_sequence_length
        if tokens <= floor:
            return text, None
        return text, cond["t5_mask"] | (torch.arange(tokens, device=text.device) < floor)

    def blocks(self) -> list[nn.Module]:
        """The transformer blocks in order, for compilation and sharding."""
        return list(self.net.transformer_blocks)

    def route(self, route: Route | None) -> None:
        """Which tokens of the picture pass which blocks by while it is trained. Raises ConfigError where there are none such."""
        if route is not None:
            route.blocks(len(self.net.transformer_blocks))
        self._route = route

    def adapter_mode(self, mode: str, *, rank: int, alpha: float, seed: int) -> None:
        """What of the adapter learns: `freeze`, `train` or `lora`, see `adapter.set_mode`."""
        set_mode(self.adapter, mode, rank=rank, alpha=alpha, seed=seed)

    def export_state(self) -> dict[str, Tensor]:
        """Weights under the names of a diffusers pipeline's folders, detached, sharing memory where nothing is merged."""
        return {k: v.detach() for k, v in _joined(self.net.state_dict(), merged_state(self.adapter)).items()}

    def load_export_state(self, state: Mapping[str, Tensor], *, where: str | None = None) -> None:
        """Copy in what `export_state` gave. A LoRA of the adapter must not be there yet.

        Raises:
            DataError: a name is missing, unknown, or has another shape; nothing has been loaded then.
        """
        check_state(_joined(self.net.state_dict(), self.adapter.state_dict()), state, where=where)
        for module, prefix in ((self.net, TRANSFORMER), (self.adapter, CONDITIONER)):
            module.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})

    # -- inside --------------------------------------------------------------------------------------------------------

    def _velocity(self, x_BChw: Tensor, t_B: Tensor, text_BLD: Tensor, visible_BL: Tensor | None) -> Tensor:
        """diffusers' `CosmosTransformer3DModel.forward` for one frame."""
        net = self.net
        dtype, patch = net.proj_out.weight.dtype, net.config.patch_size[1]
        height, width = (side // patch for side in x_BChw.shape[-2:])
        x = torch.cat([x_BChw, x_BChw.new_zeros(x_BChw[:, :1].shape)], dim=1).to(dtype)  # the mask: nothing is padding
        rotation = self._turns(height, width, x.device)
        positions_1SD = None
        if net.learnable_pos_embed is not None:
            positions_1SD = net.learnable_pos_embed(x[:1, :, None])
        x_BSD = net.patch_embed.proj(_patches(x, patch))
        time_B3D, embedded_BD = self._time(t_B)
        text_BLD = text_BLD.to(dtype)
        visible = None if visible_BL is None else visible_BL[:, None, None, :]
        blocks = list(net.transformer_blocks)

        def through(x_BSD: Tensor, some: slice, turns: Tables, positions: Tensor | None) -> Tensor:
            for block in blocks[some]:
                x_BSD = block(x_BSD, text_BLD, embedded_BD, time_B3D, turns, positions, visible)
            return x_BSD

        if self._route is None or not (self.training and torch.is_grad_enabled()):
            x_BSD = through(x_BSD, slice(None), rotation, positions_1SD)
        else:
            inner = self._route.blocks(len(blocks))
            staying_BK = self._route.staying(x_BChw, t_B, tokens=x_BSD.shape[1])
            cos_BKd, sin_BKd = (rows_of(table, staying_BK) for table in rotation)
            positions_BKD = None if positions_1SD is None else rows_of(positions_1SD[0], staying_BK)
            turns = cos_BKd[:, None], sin_BKd[:, None]  # the same in all heads
            x_BSD = through(x_BSD, slice(inner.start), rotation, positions_1SD)
            x_BSD = routed(
                x_BSD, staying_BK, lambda x_BKD: through(x_BKD, slice(inner.start, inner.stop), turns, positions_BKD)
            )
            x_BSD = through(x_BSD, slice(inner.stop, None), rotation, positions_1SD)
        x_BSD = net.proj_out(net.norm_out(x_BSD, embedded_BD, time_B3D))
        return _unpatched(x_BSD, height, width, patch)

    def _time(self, t_B: Tensor) -> tuple[Tensor, Tensor]:
        """What every modulation adds `[B, 3D]`, and what it reads `[B, D]`. In the dtype of the weights also under autocast: bf16
        knows only 256 steps between 0.5 and 1, and these few rows cost nothing."""
        embed = self.net.time_embed
        device = t_B.device.type
        exact = torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()
        with exact:
            waves_BD = embed.time_proj(t_B.float()).to(embed.norm.weight.dtype)
            return embed.t_embedder(waves_BD), embed.norm(waves_BD)

    def _check(self, x_BChw: Tensor) -> None:
        device, dtype = x_BChw.device.type, self.net.proj_out.weight.dtype
        known = torch.amp.is_autocast_available(device)  # not on the meta device, where plans are made
        mixed = torch.get_autocast_dtype(device) if known and torch.is_autocast_enabled(device) else None
        if torch.float16 in (dtype, mixed):
            raise ConfigError(
                "Anima does not compute in float16",
                why="its residual stream grows beyond 65504, where float16 ends: the picture would be black",
                do="use bfloat16, or float32 on a device without it",
            )
        patch, places = self.net.config.patch_size[1], max(self.net.rope.max_size)
        height, width = x_BChw.shape[-2:]
        if height % patch or width % patch or max(height, width) > patch * places:
            raise ConfigError(
                f"latents of {height}x{width} cells do not fit a network with patches of {patch}x{patch} cells and a position "
                f"code for {places} patches per side",
                do=f"use sides that are multiples of {patch} and at most {patch * places}",
            )


def _patches(x_BChw: Tensor, patch: int) -> Tensor:
    """`[B, C, height * patch, width * patch]` -> `[B, height * width, C * patch * patch]`."""
    x = x_BChw.unflatten(3, (-1, patch)).unflatten(2, (-1, patch))  # B, C, row, p, column, q
    return x.permute(0, 2, 4, 1, 3, 5).flatten(3, 5).flatten(1, 2)


def _unpatched(x_BSD: Tensor, height: int, width: int, patch: int) -> Tensor:
    """`[B, height * width, patch * patch * C]` -> `[B, C, height * patch, width * patch]`."""
    x = x_BSD.unflatten(2, (patch, patch, -1)).unflatten(1, (height, width))  # B, row, column, p, q, C
    return x.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


def _joined(transformer: Mapping[str, Any], conditioner: Mapping[str, Any]) -> dict[str, Any]:
    return {TRANSFORMER + k: v for k, v in transformer.items()} | {CONDITIONER + k: v for k, v in conditioner.items()}


def _fill_buffers(adapter: AnimaTextConditioner, shape: Shape) -> None:
    """Numbers that no file holds: the adapter's rotation speeds, which the meta device did not compute."""
    head = shape.adapter_dim // shape.adapter_heads
    rotary = type(adapter.rotary_emb)(head)
    adapter.rotary_emb.inv_freq = rotary.inv_freq

"""Sizes of the SD3.5 line: which numbers make `tiny`, `medium` and `large`. Knows numbers; knows no tensor and no weight."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from ...core.errors import ConfigError, did_you_mean


@dataclass(frozen=True)
class Shape:
    """One MMDiT. Field names are diffusers' (`SD3Transformer2DModel`), so that `asdict` is its config.

    ComfyUI reads block count, head count and width at once from the width (`64 * depth`), so a model that is to load there keeps
    `num_layers == num_attention_heads` and `attention_head_dim == 64`.
    """

    num_layers: int
    num_attention_heads: int
    dual_attention_layers: tuple[int, ...]
    joint_attention_dim: int
    pooled_projection_dim: int
    pos_embed_max_size: int  # patch tokens per side of the position table; also the largest picture in 16-pixel cells
    sample_size: int = 128  # latent cells per side at which positions have step one
    attention_head_dim: int = 64
    in_channels: int = 16
    out_channels: int = 16
    patch_size: int = 2
    qk_norm: str | None = "rms_norm"

    @property
    def width(self) -> int:
        return self.num_attention_heads * self.attention_head_dim

    def config(self) -> dict[str, Any]:
        """Constructor arguments of diffusers' `SD3Transformer2DModel`."""
        return {**asdict(self), "caption_projection_dim": self.width}


SHAPES = {
    "tiny": Shape(
        num_layers=3,
        num_attention_heads=3,
        dual_attention_layers=(0, 1),
        joint_attention_dim=128,
        pooled_projection_dim=128,
        pos_embed_max_size=32,
        sample_size=32,
    ),
    # MMDiT-X: 2,243,171,520 trainable numbers and a fixed table of 384 x 384 positions.
    "medium": Shape(
        num_layers=24,
        num_attention_heads=24,
        dual_attention_layers=tuple(range(13)),
        joint_attention_dim=4096,
        pooled_projection_dim=2048,
        pos_embed_max_size=384,
    ),
    "large": Shape(
        num_layers=38,
        num_attention_heads=38,
        dual_attention_layers=(),
        joint_attention_dim=4096,
        pooled_projection_dim=2048,
        pos_embed_max_size=192,
    ),
}


def shape(flavour: str, **changes: Any) -> Shape:
    """The shape of a flavour with some fields changed; `None` leaves a field as it is.

    Raises:
        ConfigError: the flavour does not exist, or a dual attention layer lies beyond the last block.
    """
    if flavour not in SHAPES:
        raise ConfigError(
            f"sd35 has no flavour '{flavour}'{did_you_mean(flavour, SHAPES)}",
            where="model.flavour",
            do=f"choose one of: {', '.join(SHAPES)}",
        )
    changed = replace(SHAPES[flavour], **{name: value for name, value in changes.items() if value is not None})
    beyond = [index for index in changed.dual_attention_layers if index >= changed.num_layers]
    if beyond:
        raise ConfigError(
            f"dual attention in blocks {beyond}, but there are only {changed.num_layers} blocks",
            where="model.dual_attention_layers",
            do=f"use block numbers from 0 to {changed.num_layers - 1}",
        )
    return changed

"""Sizes of the Anima line: which numbers make `tiny` and `base`. Knows numbers; knows no tensor and no weight."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ...core.errors import ConfigError, did_you_mean


@dataclass(frozen=True)
class Shape:
    """One Cosmos DiT with the adapter that feeds it.

    Attributes:
        text_dim: width of what the DiT attends to, and of the adapter's token embedding.
        adaln_lora_dim: width between the two linear layers of every modulation.
        rope_scale: how far positions are stretched in time, height and width.
        max_size: frames, latent cells per side: the position code covers `max(max_size)` patches per axis.
        learned_positions: add a learned code of absolute positions to every block, as some Cosmos models have; see `SHAPES`.
        qwen_dim: width of the text encoder's states.
        adapter_dim, adapter_layers, adapter_heads: of the adapter.
        vocabulary_size: T5 tokens that the adapter embeds.
        text_floor: tokens that every caption's features are padded to with zeros; the DiT attends to those zeros.
    """

    num_layers: int = 28
    num_attention_heads: int = 16
    attention_head_dim: int = 128
    text_dim: int = 1024
    adaln_lora_dim: int = 256
    rope_scale: tuple[float, float, float] = (1.0, 4.0, 4.0)
    max_size: tuple[int, int, int] = (128, 240, 240)
    learned_positions: bool = False
    qwen_dim: int = 1024
    adapter_dim: int = 1024
    adapter_layers: int = 6
    adapter_heads: int = 16
    vocabulary_size: int = 32128
    text_floor: int = 512
    channels: int = 16
    patch_size: int = 2

    def __post_init__(self) -> None:
        """Raises ConfigError for sizes that no network can have; left alone, the libraries fail in the middle of a picture."""
        head, adapter = self.attention_head_dim, self.adapter_dim
        # Height and width rotate a third of a head each, in pairs, and the stretch of positions divides by all pairs but one.
        if head % 2 or head // 6 * 2 < 4:
            raise ConfigError(
                f"attention heads of {head} channels cannot turn with height and width",
                where="model.attention_head_dim",
                do="use an even number of at least 12",
            )
        if adapter % (2 * self.adapter_heads):
            raise ConfigError(
                f"an adapter of {adapter} channels does not divide into {self.adapter_heads} heads of an even width",
                where="model.text_dim",
                why="the adapter's heads turn pairs of channels with the position of a token",
                do=f"use a multiple of {2 * self.adapter_heads}",
            )

    @property
    def width(self) -> int:
        return self.num_attention_heads * self.attention_head_dim

    def transformer_config(self) -> dict[str, Any]:
        """Constructor arguments of diffusers' `CosmosTransformer3DModel`."""
        return {
            "in_channels": self.channels,
            "out_channels": self.channels,
            "num_attention_heads": self.num_attention_heads,
            "attention_head_dim": self.attention_head_dim,
            "num_layers": self.num_layers,
            "mlp_ratio": 4.0,
            "text_embed_dim": self.text_dim,
            "adaln_lora_dim": self.adaln_lora_dim,
            "max_size": self.max_size,
            "patch_size": (1, self.patch_size, self.patch_size),
            "rope_scale": self.rope_scale,
            "concat_padding_mask": True,
            "extra_pos_embed_type": "learnable" if self.learned_positions else None,
        }

    def conditioner_config(self) -> dict[str, Any]:
        """Constructor arguments of diffusers' `AnimaTextConditioner`."""
        return {
            "source_dim": self.qwen_dim,
            "target_dim": self.text_dim,
            "model_dim": self.adapter_dim,
            "num_layers": self.adapter_layers,
            "num_attention_heads": self.adapter_heads,
            "target_vocab_size": self.vocabulary_size,
            "min_sequence_length": self.text_floor,
        }


# Anima knows positions by rotation only, that is relative to each other. At t = 1 every token looks alike, attention over equal
# values gives equal values, and nothing tells a corner from the middle; 28 blocks learn to see the borders, four do not in ten
# minutes (docs/LOG.md). So the tiny flavour has the learned positions that diffusers' network offers; `learned_positions=false`
# takes them away.
SHAPES = {
    "tiny": Shape(
        num_layers=4,
        num_attention_heads=6,
        attention_head_dim=32,
        text_dim=128,
        adaln_lora_dim=64,
        max_size=(1, 64, 64),
        learned_positions=True,
        qwen_dim=64,
        adapter_dim=128,
        adapter_layers=2,
        adapter_heads=4,
        vocabulary_size=2048,
        text_floor=64,
    ),
    "base": Shape(),  # Cosmos-Predict2-2B: 1,956,405,248 numbers, and an adapter of 134,663,680 beside it
}


def shape(flavour: str, **changes: Any) -> Shape:
    """The shape of a flavour with some fields changed; `None` leaves a field as it is.

    Raises:
        ConfigError: the flavour does not exist.
    """
    if flavour not in SHAPES:
        raise ConfigError(
            f"anima has no flavour '{flavour}'{did_you_mean(flavour, SHAPES)}",
            where="model.flavour",
            do=f"choose one of: {', '.join(SHAPES)}",
        )
    given = {name: value for name, value in changes.items() if value is not None}
    small = [
        name for name, value in given.items() if isinstance(value, int) and not isinstance(value, bool) and value < 1
    ]
    if small:
        raise ConfigError(f"{small[0]} {given[small[0]]} is below 1", where="model", do="leave it out, or give a size")
    return replace(SHAPES[flavour], **given)

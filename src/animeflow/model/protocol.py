"""What every family must offer. Knows tensors and strings; knows no family, no data set and no recipe.

Conventions: t in [0, 1] with t = 1 noise, float32; latents `[B, C, h, w]` normalised by the codec; velocity = noise - data;
pixels in [-1, 1] RGB. A family that thinks otherwise converts inside its own `forward`, nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ..core.conditioning import Conditioning
from .dialect import Dialect
from .work import Work

TextRow = Mapping[str, Tensor]
"""Frozen features of one caption without a batch axis, at the caption's own length, e.g. `{"t5": [n, 4096], ...}`.
This is what the cache stores; only the family's text tower knows its names."""


Prompt = Sequence[tuple[str, float]]
"""A prompt taken apart by `text.emphasis.parse`: pieces of plain text, each with its weight; 1.0 is no emphasis."""


@runtime_checkable
class Codec(Protocol):
    """Pixels to latents and back, frozen. `encode` gives the mode of the posterior: no draw, so a cache is exact."""

    channels: int
    stride: int  # pixels per latent cell, along one side
    fingerprint: str  # hash of weights and normalisation: a cache made by another codec can never be mistaken for ours

    @property
    def device(self) -> torch.device:
        """Where it works; `to` moves it there in place."""

    def encode(self, pixels: Tensor) -> Tensor:
        """`[B, 3, H, W]` in [-1, 1] -> normalised latents `[B, C, H/stride, W/stride]`, float32."""

    def decode(self, latents: Tensor) -> Tensor:
        """Inverse of `encode` as far as the codec can: `[B, C, h, w]` -> `[B, 3, H, W]` in [-1, 1], clamped."""

    def to(self, device: torch.device | str) -> Codec: ...


@runtime_checkable
class TextTower(Protocol):
    """Captions to frozen features, encoder by encoder. A loader's thread and the main one may call it at the same time."""

    encoders: tuple[str, ...]  # names of the encoders that can be dropped one by one, e.g. ("clip_l", "clip_g", "t5")
    fingerprint: str  # hash of weights, tokenizers and length policy

    @property
    def device(self) -> torch.device:
        """Where it works; `to` moves it there in place."""

    def encode(self, captions: Sequence[str]) -> list[TextRow]:
        """One row per caption, on the CPU. What else is in the list never changes a row."""

    def encode_weighted(self, prompts: Sequence[Prompt]) -> list[TextRow]:
        """As `encode`, for prompts with emphasis: pieces are tokenized one by one, as ComfyUI does, and each token has the effect
        of its weight that is this family's own. A prompt of one piece with weight 1.0 gives the row that `encode` gives."""

    def collate(self, rows: Sequence[TextRow], *, drop: Sequence[frozenset[str]] | None = None) -> Conditioning:
        """Rows of one batch -> Conditioning. `drop[i]` names the encoders whose part of row i becomes the family's null."""

    def num_tokens(self, caption: str) -> Mapping[str, tuple[int, int]]:
        """Per encoder: (tokens of this caption, tokens that the length policy keeps), so that truncation is counted."""

    def to(self, device: torch.device | str) -> TextTower: ...


class Backbone(Protocol):
    """The network that predicts velocity. An `nn.Module`; what Conditioning holds is between it and its text tower.

    Optional: `route(route: routing.Route | None)`, of one that lets tokens pass blocks by while it is trained (`train.routing`).
    """

    def __call__(self, x_BChw: Tensor, t_B: Tensor, cond: Conditioning) -> Tensor: ...

    def blocks(self) -> list[nn.Module]:
        """The transformer blocks in order: what is compiled, computed again and sharded one by one."""

    def export_state(self) -> dict[str, Tensor]:
        """Weights under the names that the family's layouts know, detached."""


@dataclass(frozen=True)
class SamplingDefaults:
    """What the family's model card advises. `positive` is text to put before a prompt, for presets; nothing adds it unasked."""

    shift: float = 3.0
    cfg: float = 4.5
    steps: int = 28
    solver: str = "euler"
    schedule: str = "linear"
    positive: str = ""
    negative: str = ""


@runtime_checkable
class Layout(Protocol):
    """An export format of one family that another program loads. `write` and `read` are a pair: reading gives back what was
    written, bit for bit, when the dtype is the same."""

    name: str  # "diffusers", "single_file", "comfyui", ...
    has_backbone: bool  # text encoders alone have none, so there is nothing to read back
    place: str  # for the model card: where its files go, e.g. "`ComfyUI/models/diffusion_models`"
    example: str  # for the model card: code that loads them, Markdown; may be empty

    def write(
        self,
        state: Mapping[str, Tensor],
        folder: Path,
        *,
        dtype: torch.dtype,
        metadata: Mapping[str, str],
        stem: str = "model",
    ) -> list[Path]:
        """Write backbone weights (names of `family.backbone().export_state()`) and whatever the layout carries besides
        (codec, text encoders, tokenizers, scheduler) into `folder`, which exists and is empty. Returns the files; `stem`
        names the one that holds the backbone, where the layout leaves that free."""

    def read(self, path: Path) -> dict[str, Tensor]:
        """The backbone state dict back from a file or folder of this layout."""

    def notes(self) -> list[str]:
        """What this layout cannot carry of the family, or who cannot load it: sentences for log and model card."""


@dataclass(frozen=True)
class PartSize:
    """For plans: name of a part and its number of parameters.

    Attributes:
        own_rate: beginning of its parameters' names, where the part must not learn at the common rate by mere silence: while it
            is trainable, `optim.rates` has to name it.
    """

    name: str
    parameters: int
    trainable: bool
    own_rate: str | None = None


@runtime_checkable
class Family(Protocol):
    """One pretrained line of models. Parts are built on first use and then kept."""

    name: str
    flavour: str
    patch: int  # latent cells per token, along one side
    defaults: SamplingDefaults
    model_spec: Mapping[str, str]  # for file headers: `architecture`, `implementation` of the Model Metadata Standard
    lora_targets: Mapping[
        str, tuple[str, ...]
    ]  # presets of layers by name: patterns (`*` for anything) of `lora_layers`
    text_settings: tuple[str, ...]  # constructor options that change text features: recorded with a run and its exports

    @staticmethod
    def weights_at(path: Path) -> Mapping[str, Any]:
        """Constructor options that read the weights lying at `path`, e.g. `{"weights": ..., "codec": None, "text": None}`: a file
        or folder in any layout of the family, or an export with several of them, of which the one that brings most parts is
        taken. An option is given only where what lies there decides it; None where the part lies with the weights.

        Raises:
            ConfigError: there is nothing of this family, or more than one thing."""

    def backbone(self) -> nn.Module: ...

    def codec(self) -> Codec: ...

    def text_tower(self) -> TextTower: ...

    def layouts(self) -> Mapping[str, Layout]: ...

    def lora_layers(self, backbone: nn.Module) -> Mapping[str, str]:
        """Every linear layer that a LoRA may be added to: its name in `export_state` without `.weight` -> its module's name in
        `backbone`, which may be the `outline`."""

    @staticmethod
    def dialects() -> Mapping[str, Dialect]:
        """The ways to name a LoRA's tensors by name; the first is the one that most programs read. Asks for no weights."""

    def sizes(self) -> Sequence[PartSize]:
        """Parameter counts without allocating memory (meta device)."""

    @property
    def text_tokens(self) -> int:
        """What the backbone sees of one full prompt: for plans and measurements."""

    def tokens_of(self, cond: Conditioning) -> int:
        """What the backbone sees of the captions of one batch, padding among it."""

    def work(self, *, height: int, width: int, text_tokens: int) -> Work:
        """FLOP of one picture of so many pixels with a prompt of so many tokens, in closed form; asks for no weight."""

    def outline(self) -> nn.Module:
        """The backbone on torch's meta device: names and shapes without numbers, for counting."""

    def random_inputs(
        self, count: int, *, height: int, width: int, tokens: int, seed: int = 0
    ) -> tuple[Tensor, Conditioning]:
        """Latents and Conditioning of `count` pictures of so many pixels with prompts of `tokens` tokens, which say nothing: on the
        CPU, without codec and text tower, for measuring what a step costs."""

    def stock(self, backbone: nn.Module) -> nn.Module:
        """The peer of `backbone` for benchmarks: the network as its library runs it, eager, on a copy of the weights, called
        alike."""

    def describe(self) -> Mapping[str, str]:
        """Identity for manifests and model cards: name, flavour, where weights came from, and under `codec` and `text` the
        fingerprints of these parts."""

"""Anima as files that other programs load: the released single files, all in one, and ComfyUI's folders. diffusers' folder is next
door. Knows names, headers and folders; knows no run and no model card.

The text adapter is in every file that holds the DiT, trained or not: without it ComfyUI takes the file for another model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from ...core.errors import DataError
from ..codec import KLCodec, TinyCodec
from ..layout_parts import tell, without_spec
from ..names import prefixed
from ..protocol import Layout, SamplingDefaults
from ..tensor_file import cast, only_file, read_tensors, write_tensors
from .codec import QwenCodec
from .keymap import DIFFUSION, RELEASED, TEXT, VAE, backbone_state, to_encoder_file, to_released
from .keymap_vae import vae_to_original
from .layout_diffusers import DiffusersFolder
from .shapes import SHAPES, Shape
from .text_tower import AnimaTextTower

QWEN3_WIDTH, QWEN3_LAYERS = 1024, 28  # of the one text encoder that ComfyUI builds for Anima
QWEN_LEVELS = ((1, 2, 4, 4), 2)  # of its autoencoder: width of each level, residual blocks in it


class AnimaParts(Protocol):
    """What the layouts need of the family."""

    name: str
    flavour: str
    shape: Shape
    empty_prompt: str
    defaults: SamplingDefaults

    def codec(self) -> QwenCodec | KLCodec | TinyCodec: ...

    def text_tower(self) -> AnimaTextTower: ...


def layouts(family: AnimaParts) -> dict[str, Layout]:
    """Every layout of Anima by name."""
    every: list[Layout] = [
        DiffusersFolder(family),
        SingleFile(family),
        DiffusionOnly(family),
        text_encoders(family),
        autoencoder(family),
        ComfyUIFolder(family),
    ]
    return {layout.name: layout for layout in every}


@dataclass
class DiffusionOnly:
    """`STEM.safetensors` with the names of the released file: DiT and text adapter behind `net.`."""

    family: AnimaParts
    name: str = "diffusion_only"
    place: str = "`ComfyUI/models/diffusion_models`"
    example: str = ""
    has_backbone: bool = True

    def write(
        self,
        state: Mapping[str, Tensor],
        folder: Path,
        *,
        dtype: torch.dtype,
        metadata: Mapping[str, str],
        stem: str = "model",
    ) -> list[Path]:
        tell(self)
        tensors = prefixed(to_released(state), RELEASED)
        return [write_tensors(folder / f"{stem}.safetensors", cast(tensors, dtype), metadata)]

    def read(self, path: Path) -> dict[str, Tensor]:
        return backbone_state(read_tensors(only_file(path)))

    def notes(self) -> list[str]:
        return backbone_notes(self.family)


@dataclass
class SingleFile:
    """`STEM.safetensors` for ComfyUI's checkpoint loader: DiT and text adapter, autoencoder and text encoder in one."""

    family: AnimaParts
    name: str = "single_file"
    place: str = "`ComfyUI/models/checkpoints`"
    example: str = ""
    has_backbone: bool = True

    def write(
        self,
        state: Mapping[str, Tensor],
        folder: Path,
        *,
        dtype: torch.dtype,
        metadata: Mapping[str, str],
        stem: str = "model",
    ) -> list[Path]:
        tell(self)
        tensors = prefixed(to_released(state), DIFFUSION)
        tensors |= prefixed(codec_state(self.family.codec()), VAE)
        tensors |= prefixed(to_encoder_file(self.family.text_tower().model.state_dict()), TEXT)
        return [write_tensors(folder / f"{stem}.safetensors", cast(tensors, dtype), metadata)]

    def read(self, path: Path) -> dict[str, Tensor]:
        return backbone_state(read_tensors(only_file(path)))

    def notes(self) -> list[str]:
        family = self.family
        return [*backbone_notes(family), *encoder_notes(family.text_tower()), *codec_notes(family.codec())]


@dataclass
class OnePart:
    """The file of a frozen part, text encoder or autoencoder, as users of ComfyUI know it. Nothing is written of a part for which
    there are no released names."""

    file: str
    tensors: Callable[[], Mapping[str, Tensor]]
    said: Callable[[], list[str]]
    name: str
    place: str = ""
    example: str = ""
    has_backbone: bool = False

    def write(
        self,
        state: Mapping[str, Tensor],
        folder: Path,
        *,
        dtype: torch.dtype,
        metadata: Mapping[str, str],
        stem: str = "model",
    ) -> list[Path]:
        """`state` and `stem` are not used: these weights are frozen, and the file has the released one's name."""
        tell(self)
        tensors = self.tensors()
        return [write_tensors(folder / self.file, cast(tensors, dtype), without_spec(metadata))] if tensors else []

    def read(self, path: Path) -> dict[str, Tensor]:
        raise DataError(
            f"{self.file} holds no backbone", where=str(path), do="read the diffusers folder or a single file"
        )

    def notes(self) -> list[str]:
        return self.said()


def text_encoders(family: AnimaParts, name: str = "text_encoders") -> OnePart:
    """`qwen_3_06b_base.safetensors`. Of T5 Anima uses the tokenizer only, which ComfyUI has."""
    return OnePart(
        "qwen_3_06b_base.safetensors",
        lambda: to_encoder_file(family.text_tower().model.state_dict()),
        lambda: encoder_notes(family.text_tower()),
        name,
        "`ComfyUI/models/text_encoders`",
    )


def autoencoder(family: AnimaParts, name: str = "vae") -> OnePart:
    """`qwen_image_vae.safetensors` with the names of the original, the only ones that ComfyUI reads."""
    return OnePart(
        "qwen_image_vae.safetensors",
        lambda: codec_state(family.codec()),
        lambda: codec_notes(family.codec()),
        name,
        "`ComfyUI/models/vae`",
    )


@dataclass
class ComfyUIFolder:
    """A tree to copy into ComfyUI's `models`: the three files of the released model, each in its folder."""

    family: AnimaParts
    name: str = "comfyui"
    place: str = "copy the tree into `ComfyUI/models`"
    example: str = ""
    has_backbone: bool = True

    def write(
        self,
        state: Mapping[str, Tensor],
        folder: Path,
        *,
        dtype: torch.dtype,
        metadata: Mapping[str, str],
        stem: str = "model",
    ) -> list[Path]:
        return [
            file
            for place, layout in self._folders().items()
            for file in layout.write(state, folder / place, dtype=dtype, metadata=metadata, stem=stem)
        ]

    def read(self, path: Path) -> dict[str, Tensor]:
        return DiffusionOnly(self.family).read(only_file(path, within=("diffusion_models",)))

    def notes(self) -> list[str]:
        return [note for layout in self._folders().values() for note in layout.notes()]

    def _folders(self) -> dict[str, Layout]:
        family, name = self.family, self.name
        return {
            "diffusion_models": DiffusionOnly(family, name),
            "text_encoders": text_encoders(family, name),
            "vae": autoencoder(family, name),
        }


def codec_state(codec: QwenCodec | KLCodec | TinyCodec) -> dict[str, Tensor]:
    """Weights under original names; nothing for an autoencoder that has none."""
    return vae_to_original(codec.net.state_dict()) if isinstance(codec, QwenCodec) else {}


def backbone_notes(family: AnimaParts) -> list[str]:
    """What ComfyUI makes of the backbone, and of a prompt with nothing in it."""
    said = []
    released = SHAPES["base"]
    if replace(family.shape, max_size=released.max_size) != released:
        said.append(
            "ComfyUI and kohya's scripts build Anima from constants, 28 blocks of the released width: they cannot load a model of "
            "another size. diffusers can."
        )
    if family.empty_prompt != "comfy":
        said.append(
            "ComfyUI makes one padding token of an empty prompt, where the training had no token: write a negative prompt there."
        )
    return said


def encoder_notes(tower: AnimaTextTower) -> list[str]:
    config = tower.model.config
    if (config.hidden_size, config.num_hidden_layers) == (QWEN3_WIDTH, QWEN3_LAYERS):
        return []
    return ["ComfyUI only builds the released text encoder, Qwen3-0.6B, so it cannot load this smaller one."]


def codec_notes(codec: QwenCodec | KLCodec | TinyCodec) -> list[str]:
    """Why ComfyUI cannot have the autoencoder; only its base width is read from the file there."""
    kind = type(codec.net).__name__
    if not isinstance(codec, QwenCodec):
        return [
            f"The autoencoder is a small one ({kind}) for which ComfyUI has no place with Anima, so it is left out. Qwen-Image's "
            "autoencoder cannot decode these latents: decode them with animeflow."
        ]
    config = codec.net.config
    if (tuple(config.dim_mult), config.num_res_blocks) == QWEN_LEVELS:
        return []
    return [
        "ComfyUI only builds an autoencoder with the levels and blocks of Qwen-Image's, so it cannot load this smaller one."
    ]

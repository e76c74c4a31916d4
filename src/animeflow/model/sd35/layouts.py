"""SD3.5 as files that other programs load: original single files, text encoders apart, and ComfyUI's folders. diffusers' folder
is next door. Knows names, headers and folders; knows no run and no model card.

Every floating tensor is cast to the one dtype of the export, the position table too: it only saves space to round it, and every
program casts it to the dtype it computes in anyway. It is never left out: ComfyUI would silently compute other positions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
from .keymap import DIFFUSION, VAE, from_original, parts, to_original
from .keymap_vae import vae_to_original
from .layout_diffusers import DiffusersFolder
from .shapes import Shape
from .text_tower import SD3TextTower

SD3_SCALE, SD3_SHIFT = 1.5305, 0.0609  # ComfyUI's latents of SD3: (z - shift) * scale
TAESD_BLOCKS = ((1, 3, 3, 3), (3, 3, 3, 1), (64, 64, 64, 64))  # the one shape of tiny autoencoder that ComfyUI builds
COMFYUI_WIDTHS = {"clip_l": 768, "clip_g": 1280, "t5xxl": 4096}  # ComfyUI's text encoders are constants


class SD35Parts(Protocol):
    """What the layouts need of the family."""

    name: str
    flavour: str
    shape: Shape
    defaults: SamplingDefaults

    def codec(self) -> KLCodec | TinyCodec: ...

    def text_tower(self) -> SD3TextTower: ...


def layouts(family: SD35Parts) -> dict[str, Layout]:
    """Every layout of SD3.5 by name."""
    every: list[Layout] = [
        DiffusersFolder(family),
        SingleFile(family, name="single_file", with_codec=True, place="`ComfyUI/models/checkpoints`"),
        SingleFile(family, name="diffusion_only", with_codec=False, place="`ComfyUI/models/diffusion_models`"),
        TextEncoders(family),
        ComfyUIFolder(family),
    ]
    return {layout.name: layout for layout in every}


@dataclass
class SingleFile:
    """`STEM.safetensors` with original names: `model.diffusion_model.*`, and `first_stage_model.*` of a KL autoencoder."""

    family: SD35Parts
    name: str
    with_codec: bool
    place: str = ""
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
        tensors = prefixed(to_original(state), DIFFUSION)
        codec = self.family.codec() if self.with_codec else None
        if isinstance(codec, KLCodec):
            tensors |= prefixed(vae_to_original(codec.net.state_dict()), VAE)
        tell(self)
        return [write_tensors(folder / f"{stem}.safetensors", cast(tensors, dtype), metadata)]

    def read(self, path: Path) -> dict[str, Tensor]:
        path = only_file(path)
        found = parts(read_tensors(path))
        if DIFFUSION not in found:
            raise DataError(f"no diffusion weights here, only {', '.join(found)}", where=str(path))
        return from_original(found[DIFFUSION])

    def notes(self) -> list[str]:
        said = backbone_notes(self.family.shape)
        if self.with_codec and not isinstance(self.family.codec(), KLCodec):
            said.append(
                "The autoencoder is a tiny one, for which a checkpoint has no names: this file holds the diffusion model alone."
            )
        return said


@dataclass
class TextEncoders:
    """`clip_l.safetensors`, `clip_g.safetensors`, `t5xxl.safetensors` with the names transformers gives them."""

    family: SD35Parts
    name: str = "text_encoders"
    place: str = "`ComfyUI/models/text_encoders`"
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
        """`state` and `stem` are not used: these weights are frozen and ComfyUI users know the files by their names."""
        tell(self)
        return [
            write_tensors(folder / f"{name}.safetensors", cast(tensors, dtype), without_spec(metadata))
            for name, tensors in text_states(self.family.text_tower()).items()
        ]

    def read(self, path: Path) -> dict[str, Tensor]:
        raise DataError(
            "text encoders hold no backbone", where=str(path), do="read the diffusers folder or a single file"
        )

    def notes(self) -> list[str]:
        tower = self.family.text_tower()
        said = [] if tower.t5 else ["There is no T5: its tokens are zeros in diffusers and are absent in ComfyUI."]
        widths = {
            "clip_l": tower.clip_l.width,
            "clip_g": tower.clip_g.width,
            "t5xxl": tower.t5.width if tower.t5 else None,
        }
        small = [name for name, width in widths.items() if width not in (None, COMFYUI_WIDTHS[name])]
        if small:
            said.append(
                f"ComfyUI only builds text encoders of the released sizes, so it cannot load {', '.join(small)}."
            )
        projection = tower.clip_l.model.text_projection.weight
        if not torch.equal(projection, torch.eye(*projection.shape, dtype=projection.dtype, device=projection.device)):
            said.append(
                "The projection of CLIP-L is not the identity, and ComfyUI does not apply it: pooled features differ there."
            )
        return said


@dataclass
class ComfyUIFolder:
    """A tree to copy into ComfyUI's `models`: one checkpoint with its autoencoder, or the diffusion model and a tiny
    autoencoder apart; and the text encoders."""

    family: SD35Parts
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
        codec = self.family.codec()
        whole = isinstance(codec, KLCodec)
        place = folder / ("checkpoints" if whole else "diffusion_models")
        model = SingleFile(self.family, name=self.name, with_codec=whole)
        files = model.write(state, place, dtype=dtype, metadata=metadata, stem=stem)
        if isinstance(codec, TinyCodec) and is_taesd(codec):
            file, tensors = folder / "vae" / f"{stem}_taesd.safetensors", taesd_state(codec, dtype)
            files.append(write_tensors(file, tensors, without_spec(metadata)))
        texts = TextEncoders(self.family).write(state, folder / "text_encoders", dtype=dtype, metadata=metadata)
        return files + texts

    def read(self, path: Path) -> dict[str, Tensor]:
        places = [path / name for name in ("checkpoints", "diffusion_models") if (path / name).is_dir()]
        if len(places) != 1:
            raise DataError(
                f"found {len(places)} of the folders checkpoints, diffusion_models; need one",
                where=str(path),
                do="give the tree as written",
            )
        return SingleFile(self.family, name=self.name, with_codec=False).read(places[0])

    def notes(self) -> list[str]:
        said = backbone_notes(self.family.shape) + TextEncoders(self.family).notes()
        codec = self.family.codec()
        if isinstance(codec, TinyCodec) and not is_taesd(codec):
            said.append(
                "The autoencoder is smaller than TAESD, the only tiny one ComfyUI builds, so it is left out: decode with diffusers."
            )
        return said


def backbone_notes(shape: Shape) -> list[str]:
    """Why ComfyUI would refuse a backbone of this shape or could not feed it."""
    said = []
    if shape.num_layers != shape.num_attention_heads or shape.attention_head_dim != 64 or shape.in_channels != 16:
        said.append(
            "ComfyUI reads depth, heads and width from one number, so it cannot load a model whose blocks are not as many as its "
            "heads, whose heads are not of the released size, or whose latents have other channels."
        )
    if (shape.joint_attention_dim, shape.pooled_projection_dim) != (4096, 2048):
        said.append(
            "The text widths are not those of the released encoders: ComfyUI loads the model but cannot feed it from a prompt."
        )
    return said


def text_states(tower: SD3TextTower) -> dict[str, dict[str, Tensor]]:
    """Weights of the encoders that are there, each tensor once (T5's input embedding has two names)."""
    encoders = {"clip_l": tower.clip_l, "clip_g": tower.clip_g, "t5xxl": tower.t5}
    twice = "encoder.embed_tokens.weight"
    return {
        name: {key: tensor for key, tensor in encoder.model.state_dict().items() if key != twice}
        for name, encoder in encoders.items()
        if encoder is not None
    }


def is_taesd(codec: TinyCodec) -> bool:
    config = codec.net.config
    blocks = (
        tuple(config.num_encoder_blocks),
        tuple(config.num_decoder_blocks),
        tuple(config.encoder_block_out_channels),
    )
    return blocks == TAESD_BLOCKS and codec.channels == 16


def taesd_state(codec: TinyCodec, dtype: torch.dtype) -> dict[str, Tensor]:
    """One file for ComfyUI's VAE loader: TAESD's own names, and the numbers that undo ComfyUI's latent format, in float32."""
    state = {}
    for name, tensor in cast(codec.net.state_dict(), dtype).items():
        half, _, index, *rest = name.split(
            "."
        )  # encoder.layers.3.conv.0.weight; TAESD counts the decoder's clamp as layer 0
        state[".".join([f"taesd_{half}", str(int(index) + (half == "decoder")), *rest])] = tensor
    return state | {"vae_scale": torch.tensor(SD3_SCALE), "vae_shift": torch.tensor(SD3_SHIFT)}

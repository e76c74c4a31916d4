"""Anima's weights from disk: a diffusers folder, the released files, or an all-in-one file. Knows files; builds no network.

The file says what the network looks like; the flavour only says what was expected. Not in any single file are how positions are
scaled, for how large a picture they are computed, and how far captions are padded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import AnimaTextConditioner, CosmosTransformer3DModel
from torch import Tensor

from ...core.errors import ConfigError, DataError
from ...core.files import read_json
from ..flavour import require_flavour
from ..layout_parts import read_network
from ..names import located, prefixed
from ..pretrained import check_kind, kind_of
from ..tensor_file import only_file, open_tensors, read_tensors
from .keymap import CONDITIONER, TEXT, TRANSFORMER, VAE, backbone_state, from_encoder_file, to_released
from .keymap_vae import vae_from_original, vae_to_original
from .shapes import SHAPES, Shape

FREE = ("max_size",)  # for how large a picture positions are computed; it changes none of them
FOLDERS = (
    "",
    "single_file",
    "diffusion_models",
    "diffusion_only",
    "comfyui/diffusion_models",
)  # of an export, where a backbone may lie, those that bring most parts first


def find_weights(path: Path) -> Path:
    """What to load of `path`: a file, a folder in diffusers' layout, or what an export of any layout holds.

    Raises:
        ConfigError: there is no weights file, or more than one.
    """
    if path.is_file() or (path / "transformer").is_dir() or (path / "config.json").is_file():
        return path
    return path / "diffusers" if (path / "diffusers").is_dir() else only_file(path, within=FOLDERS)


def codec_beside(file: Path) -> Path | None:
    """Where the autoencoder lies that belongs to a single file: in it, or in the folder next to it as ComfyUI has them."""
    if not file.is_file():
        return None
    with open_tensors(file) as opened:
        if any(name.startswith(VAE) for name in opened.keys()):  # noqa: SIM118  not a dict
            return file
    beside = file.parent.parent / "vae" / "qwen_image_vae.safetensors"
    return beside if file.parent.name == "diffusion_models" and beside.is_file() else None


def stored_shape(path: Path, *, like: Shape = SHAPES["base"]) -> Shape:
    """Shape of the backbone in a folder or file, from its configs or header alone. What no single file tells is taken from `like`.

    Raises:
        ConfigError: nothing is there. DataError: it is not an Anima network.
    """
    if path.is_dir():
        transformer, conditioner = _folders(path)
        return _shape_of_configs(transformer / "config.json", conditioner / "config.json")
    _check_file(path, "weights")
    with open_tensors(path) as file:
        header = {name: torch.empty(file.get_slice(name).get_shape(), device="meta") for name in file.keys()}  # noqa: SIM118
    return _shape_of_state(located(backbone_state, header, path), like)


def stored_state(path: Path) -> dict[str, Tensor]:
    """DiT and adapter in a folder or file under the names of `Backbone.export_state`, in the dtype of the file.

    Raises:
        ConfigError: nothing is there. DataError: it is not an Anima network, or a part of one.
    """
    if not path.is_dir():
        _check_file(path, "weights")
        return located(backbone_state, read_tensors(path), path)
    state: dict[str, Tensor] = {}
    for folder, prefix in zip(_folders(path), (TRANSFORMER, CONDITIONER), strict=True):
        state |= prefixed(read_network(folder, do="give a diffusers Anima pipeline folder"), prefix)
    located(to_released, state, path)
    return state


def stored_codec_state(path: Path) -> dict[str, Tensor]:
    """Weights of a Qwen-Image autoencoder under diffusers' names, from its file under either names or from an all-in-one file.

    Raises:
        ConfigError: there is no file. DataError: it holds no such autoencoder.
    """
    _check_file(path, "codec")
    state = _part(path, VAE)
    if any(name.startswith("encoder.down_blocks.") for name in state):
        located(vae_to_original, state, path)
        return state
    return located(vae_from_original, state, path)


def stored_text_state(path: Path) -> dict[str, Tensor]:
    """Weights of a Qwen3 text encoder under the names of `Qwen3Model`, from its file or from an all-in-one file.

    Raises:
        ConfigError: there is no file. DataError: it holds no such encoder.
    """
    _check_file(path, "text")
    return located(from_encoder_file, _part(path, TEXT), path)


def check_flavour(flavour: str, found: Shape, changes: Mapping[str, Any], *, where: str) -> None:
    """Raise `ConfigError` when the weights are not of `flavour` (`tiny` is any size) or contradict an explicit `changes`."""
    expected = None if flavour == "tiny" else SHAPES[flavour]
    require_flavour(f"anima/{flavour}", found, expected, changes, free=FREE, where=where)


def _folders(path: Path) -> tuple[Path, Path]:
    """`transformer` and `text_conditioner` of a pipeline folder."""
    found = path / "transformer", path / "text_conditioner"
    missing = [folder.name for folder in found if not (folder / "config.json").is_file()]
    config = found[0] / "config.json"
    kind = kind_of(read_json(config)) if config.is_file() else None
    other = kind if kind not in (None, CosmosTransformer3DModel.__name__) else None
    if missing:
        raise ConfigError(
            f"no {' and no '.join(missing)} in '{path}'"
            + (f", and its transformer is {other}, not {CosmosTransformer3DModel.__name__}" if other else ""),
            where="model.weights",
            why="the text adapter is a part of Anima's backbone, and diffusers keeps it in a folder of its own",
            do="give the folder of a whole diffusers Anima pipeline, or the released .safetensors file",
        )
    for folder, network in zip(found, (CosmosTransformer3DModel, AnimaTextConditioner), strict=True):
        check_kind(folder, network)
    return found


def _check_file(path: Path, option: str) -> None:
    if not path.is_file():
        raise ConfigError(
            f"no weights at '{path}'",
            where=f"model.{option}",
            do="give a .safetensors file, or the folder of a diffusers Anima pipeline",
        )


def _part(path: Path, prefix: str) -> dict[str, Tensor]:
    """One part of an all-in-one file, without reading the others; of any other file everything."""
    with open_tensors(path) as file:
        names = list(file.keys())
        wanted = [name for name in names if name.startswith(prefix)] or names
        return {name.removeprefix(prefix): file.get_tensor(name) for name in wanted}


def _shape_of_configs(transformer: Path, conditioner: Path) -> Shape:
    dit, adapter = read_json(transformer), read_json(conditioner)
    try:
        shape = Shape(
            num_layers=dit["num_layers"],
            num_attention_heads=dit["num_attention_heads"],
            attention_head_dim=dit["attention_head_dim"],
            text_dim=dit["text_embed_dim"],
            adaln_lora_dim=dit["adaln_lora_dim"],
            rope_scale=tuple(dit["rope_scale"]),
            max_size=tuple(dit["max_size"]),
            learned_positions=dit["extra_pos_embed_type"] is not None,
            qwen_dim=adapter["source_dim"],
            adapter_dim=adapter["model_dim"],
            adapter_layers=adapter["num_layers"],
            adapter_heads=adapter["num_attention_heads"],
            vocabulary_size=adapter["target_vocab_size"],
            text_floor=adapter["min_sequence_length"],
            channels=dit["out_channels"],
            patch_size=dit["patch_size"][-1],
        )
    except KeyError as error:
        raise DataError(
            f"no {error} in the configs of transformer and text_conditioner", where=str(transformer)
        ) from error
    expected = ((transformer, dit, shape.transformer_config()), (conditioner, adapter, shape.conditioner_config()))
    for file, found, wanted in expected:
        wanted = {name: list(value) if isinstance(value, tuple) else value for name, value in wanted.items()}
        wrong = [
            f"{name} {found.get(name)} instead of {value}" for name, value in wanted.items() if found.get(name) != value
        ]
        if wrong:
            raise DataError(
                f"this is no Anima network: {'; '.join(wrong)}",
                where=str(file),
                do="check that the folder holds Anima and no other model of the Cosmos line",
            )
    return shape


def _shape_of_state(state: Mapping[str, Tensor], like: Shape) -> Shape:
    """From the sizes of tensors under the names of our export. A head is as wide as the norm of its queries."""
    dit, adapter = f"{TRANSFORMER}transformer_blocks.", f"{CONDITIONER}blocks."

    def size(name: str, axis: int = 0) -> int:
        return int(state[name].shape[axis])

    width, head = size(f"{dit}0.attn1.to_q.weight"), size(f"{dit}0.attn1.norm_q.weight")
    adapter_dim, adapter_head = size(f"{adapter}0.self_attn.q_proj.weight"), size(f"{adapter}0.self_attn.q_norm.weight")
    read, written = size(f"{TRANSFORMER}patch_embed.proj.weight", 1), size(f"{TRANSFORMER}proj_out.weight")
    cells = read - written  # in a patch: the network reads one channel more than it writes, the padding mask
    learned = f"{TRANSFORMER}learnable_pos_embed.pos_emb_h" in state
    blocks = [
        len({name.split(".")[place] for name in state if name.startswith(part)})
        for part, place in ((dit, 2), (adapter, 2))
    ]
    return replace(
        like,
        num_layers=blocks[0],
        num_attention_heads=width // head,
        attention_head_dim=head,
        text_dim=size(f"{dit}0.attn2.to_k.weight", 1),
        adaln_lora_dim=size(f"{dit}0.norm1.linear_1.weight"),
        learned_positions=learned,
        max_size=_positions(state, math.isqrt(cells)) if learned else like.max_size,
        qwen_dim=size(f"{adapter}0.cross_attn.k_proj.weight", 1),
        adapter_dim=adapter_dim,
        adapter_layers=blocks[1],
        adapter_heads=adapter_dim // adapter_head,
        vocabulary_size=size(f"{CONDITIONER}embed.weight"),
        channels=written // cells,
        patch_size=math.isqrt(cells),
    )


def _positions(state: Mapping[str, Tensor], patch: int) -> tuple[int, int, int]:
    """Frames and latent cells per side that a learned code of positions covers."""
    frames, height, width = (state[f"{TRANSFORMER}learnable_pos_embed.pos_emb_{axis}"].shape[0] for axis in "thw")
    return frames, height * patch, width * patch

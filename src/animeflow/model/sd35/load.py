"""Real weights from disk: a diffusers folder or one file in the original layout. Knows files; builds no codec and no text.

The file says what the network looks like; the flavour only says what was expected.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import torch
from diffusers import SD3Transformer2DModel
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from ...core.errors import ConfigError, DataError
from ...core.files import read_json
from ..flavour import require_flavour
from ..names import located
from ..pretrained import check_kind, load_whole
from ..tensor_file import only_file
from .backbone import Backbone
from .keymap import DIFFUSION, check_diffusers_names, from_original, parts
from .shapes import SHAPES, Shape

FREE = ("pos_embed_max_size", "sample_size")  # a larger or smaller position table is still the same flavour


FOLDERS = (
    "",
    "single_file",
    "checkpoints",
    "diffusion_models",
    "diffusion_only",
    "comfyui/checkpoints",
    "comfyui/diffusion_models",
)


def find_weights(path: Path) -> Path:
    """What to load of `path`: a file, a folder in diffusers' layout, or what an export of any layout holds.

    Raises:
        ConfigError: there is no weights file, or more than one.
    """
    if path.is_file() or (path / "transformer").is_dir() or (path / "config.json").is_file():
        return path
    return path / "diffusers" if (path / "diffusers").is_dir() else only_file(path, within=FOLDERS)


def stored_shape(path: Path) -> Shape:
    """Shape of the backbone in a folder or file, from its config or header alone.

    Raises:
        ConfigError: nothing is there. DataError: it is not an SD3 network.
    """
    if path.is_dir():
        return _shape_of_config(_transformer(path))
    if not path.is_file():
        raise ConfigError(
            f"no weights at '{path}'", where="model.weights", do="give a diffusers folder or a single .safetensors file"
        )
    with safe_open(path, framework="pt") as file:
        header = {name: torch.empty(file.get_slice(name).get_shape(), device="meta") for name in file.keys()}  # noqa: SIM118
    return _shape_of_state(located(_ours, header, path))


def stored_backbone(path: Path) -> Backbone:
    """The backbone in a folder or file, in float32: master weights stay float32 whatever the file holds."""
    if path.is_dir():
        return Backbone(load_whole(SD3Transformer2DModel, _transformer(path)))
    state = located(_ours, load_file(path), path)
    return Backbone.from_state(_shape_of_state(state), state, where=str(path))


def check_flavour(flavour: str, found: Shape, changes: Mapping[str, Any], *, where: str) -> None:
    """Raise `ConfigError` when the weights are not of `flavour` (`tiny` is any size) or contradict an explicit `changes`."""
    expected = None if flavour == "tiny" else SHAPES[flavour]
    require_flavour(f"sd35/{flavour}", found, expected, changes, free=FREE, where=where)


def _transformer(folder: Path) -> Path:
    """The `transformer` folder of a pipeline, or the folder itself."""
    part = folder / "transformer" if (folder / "transformer").is_dir() else folder
    if not (part / "config.json").is_file():
        raise ConfigError(
            f"no transformer in '{folder}'",
            where="model.weights",
            do="give a diffusers pipeline folder or its `transformer` folder",
        )
    return part


def _ours(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The diffusion weights of a single file under diffusers' names, which it may hold already."""
    taken = parts(state)
    if DIFFUSION not in taken:
        raise DataError(
            f"no diffusion weights here, only {', '.join(sorted(taken))}",
            do="this is a codec or a text encoder; give the file of the diffusion model",
        )
    diffusion = taken[DIFFUSION]
    if any(name.startswith("transformer_blocks.") for name in diffusion):
        check_diffusers_names(diffusion)
        return diffusion
    return from_original(diffusion)


def _shape_of_config(folder: Path) -> Shape:
    check_kind(folder, SD3Transformer2DModel)
    config = read_json(folder / "config.json")
    lacking = [field.name for field in fields(Shape) if field.default is MISSING and field.name not in config]
    lacking = [name for name in lacking if name != "dual_attention_layers"]  # older configs have none of them
    if lacking:
        raise DataError(
            f"config.json tells no {', '.join(lacking)}", where=str(folder), do="export or download this folder again"
        )
    found = {field.name: config[field.name] for field in fields(Shape) if field.name in config}
    return Shape(**{**found, "dual_attention_layers": tuple(config.get("dual_attention_layers", ()))})


def _shape_of_state(state: Mapping[str, Tensor]) -> Shape:
    blocks = {int(name.split(".")[1]): name for name in state if name.startswith("transformer_blocks.")}
    dual = {int(name.split(".")[1]) for name in state if ".attn2.to_q.weight" in name}
    width, channels, patch, _ = state["pos_embed.proj.weight"].shape
    return Shape(
        num_layers=len(blocks),
        num_attention_heads=width // 64,
        dual_attention_layers=tuple(sorted(dual)),
        joint_attention_dim=state["context_embedder.weight"].shape[1],
        pooled_projection_dim=state["time_text_embed.text_embedder.linear_1.weight"].shape[1],
        pos_embed_max_size=math.isqrt(state["pos_embed.pos_embed"].shape[1]),
        in_channels=channels,
        out_channels=state["proj_out.weight"].shape[0] // patch**2,
        patch_size=patch,
        qk_norm="rms_norm" if "transformer_blocks.0.attn.norm_q.weight" in state else None,
    )

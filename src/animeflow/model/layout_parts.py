"""Parts of an export that every family writes alike: networks and text encoders in diffusers' folders, and what a file may say
of where it came from. Knows diffusers' and transformers' folders; knows no family and no run."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core.errors import DataError
from ..core.files import read_json, write_json
from .names import check_names
from .protocol import Layout
from .tensor_file import cast, read_tensors, write_tensors

log = logging.getLogger(__name__)

WEIGHTS = "diffusion_pytorch_model.safetensors"
PRIVATE = ("_name_or_path", "name_or_path")  # where a part was loaded from: a path of the machine that wrote the file


def write_network(
    network: Any,
    state: Mapping[str, Tensor],
    folder: Path,
    dtype: torch.dtype,
    metadata: Mapping[str, str],
    *,
    what: str,
) -> Path:
    """Config and weights of a diffusers network. Only names and shapes of `network` are read, so it may lie on the meta device.

    Raises:
        DataError: a name or a shape of `state` is not the network's; `what` names the network.
    """
    expected = network.state_dict()
    check_names(state, expected, what=what)
    wrong = [name for name, tensor in state.items() if tensor.shape != expected[name].shape]
    if wrong:
        raise DataError(
            f"{len(wrong)} tensors have another shape than {what}, first '{wrong[0]}' {tuple(state[wrong[0]].shape)} "
            f"instead of {tuple(expected[wrong[0]].shape)}",
            do="export with the model settings of the run",
        )
    network.save_config(folder)
    return write_tensors(folder / WEIGHTS, cast(state, dtype), metadata)


def read_network(folder: Path, *, do: str) -> dict[str, Tensor]:
    """Weights of a diffusers network, which may be in several files.

    Raises:
        DataError: there are none; `do` says what to give instead.
    """
    files = sorted(folder.glob("diffusion_pytorch_model*.safetensors"))
    if not files:
        raise DataError("no diffusion_pytorch_model*.safetensors here", where=str(folder), do=do)
    return {name: tensor for file in files for name, tensor in read_tensors(file).items()}


def write_text_encoder(
    model: Any,
    folder: Path,
    dtype: torch.dtype,
    metadata: Mapping[str, str],
    *,
    twice: frozenset[str] = frozenset(),
) -> Path:
    """Config and weights of a transformers model. `twice`: second names of tensors that are there under another."""
    config = copy.deepcopy(model.config)
    config.architectures = [type(model).__name__]
    # what it loads in unless told otherwise: diffusers' own parts do so whatever the file holds
    config.dtype = torch.float32
    config.save_pretrained(folder)
    state = {name: tensor for name, tensor in model.state_dict().items() if name not in twice}
    return write_tensors(folder / "model.safetensors", cast(state, dtype), metadata)


def forget_paths(folder: Path) -> None:
    """Take the paths of this machine out of every JSON file of an export."""
    for file in folder.rglob("*.json"):
        facts = read_json(file)
        if isinstance(facts, dict) and any(key in facts for key in PRIVATE):
            write_json(file, {key: value for key, value in facts.items() if key not in PRIVATE})


def without_spec(metadata: Mapping[str, str]) -> dict[str, str]:
    """Provenance for files that are not the diffusion model: `modelspec.*` describes that one only."""
    return {key: value for key, value in metadata.items() if not key.startswith("modelspec.")}


def tell(layout: Layout) -> None:
    """Put what a layout cannot carry into the log."""
    for note in layout.notes():
        log.info("%s: %s", layout.name, note)

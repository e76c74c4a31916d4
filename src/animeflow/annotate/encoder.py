"""A frozen network of the user's that makes a vector of a picture: CLIP, SigLIP, DINO, or an .onnx file. Knows no label.

A picture is looked at whole, shrunk, and in pieces at the size that it has, because what gives a generator away is in the texture,
and shrinking takes that first. Its vector is the whole's, then the mean of the pieces' and their deviation.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ..core.errors import ConfigError, DataError
from ..core.files import address, read_json
from ..image.picture import Pixels
from .graph import Graph
from .patches import spread
from .tagger import read_wanted, version_of
from .torch_tagger import FILE, of_processor

Vectors = NDArray[np.float32]


class Eye(Protocol):
    """A network: uint8 RGB pictures of any size to vectors `[B, D]`. `side` is what it shrinks them to."""

    side: int
    version: str

    def see(self, pictures: Sequence[Pixels]) -> Vectors: ...


class TorchEye:
    """`FOLDER/config.json` with `model.safetensors`, of any model that transformers opens and that takes `pixel_values`; of one
    with two towers the one that sees.

    Args:
        folder: of the files.
        device: where it runs.
    Raises:
        ConfigError: the folder holds no such model.
    """

    def __init__(self, folder: Path, *, device: str = "cpu") -> None:
        from transformers import AutoModel

        try:
            model = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        except (OSError, ValueError) as error:
            told = " ".join(str(error).split())[:200]
            raise ConfigError(f"no encoder could be read: {told}", where=str(folder)) from error
        self._model: Any = dict(model.named_children()).get("vision_model", model).eval().to(device)
        self._device, self.version = device, version_of(folder / FILE)
        settings = getattr(model.config, "vision_config", model.config)
        self.side = _side(getattr(settings, "image_size", None) or _of_crop(folder))
        self._wanted = read_wanted(folder, of_processor(folder))

    @torch.inference_mode()
    def see(self, pictures: Sequence[Pixels]) -> Vectors:
        batch = torch.from_numpy(self._wanted.batch(pictures, self.side, channels_first=True)).to(self._device)
        out = self._model(pixel_values=batch)
        pooled = out.get("pooler_output")
        if pooled is None:  # DINO's of before, and plain transformers: tokens in the order of the picture
            pooled = out.last_hidden_state.mean(1)
        return np.asarray(pooled.float().flatten(1).cpu().numpy(), np.float32)


def _of_crop(folder: Path) -> Any:
    """What `preprocessor_config.json` cuts or shrinks pictures to; 224 where it says nothing."""
    file = folder / "preprocessor_config.json"
    told = read_json(file) if file.is_file() else {}
    return told.get("crop_size") or told.get("size") or 224


def _side(size: Any) -> int:
    """Of a number, of a pair, or of `{"height": 224}`."""
    if isinstance(size, dict):
        size = size.get("height") or size.get("shortest_edge") or 224
    return int(size if isinstance(size, int) else size[0])


class OnnxEye:
    """`FOLDER/model.onnx`, whose first output has one vector, map or row of tokens a picture."""

    def __init__(self, folder: Path, *, threads: int = 1) -> None:
        self._graph = Graph(folder, threads=threads)
        self.version, self.side = self._graph.version, self._graph.side

    def see(self, pictures: Sequence[Pixels]) -> Vectors:
        found = np.asarray(self._graph.run(pictures), np.float32)
        if found.ndim == 3:  # [B, tokens, D]
            found = found.mean(1)
        return found.reshape(len(found), -1)


class Encoder:
    """Vectors of pictures, through an Eye.

    Args:
        pieces: of a picture that are looked at in the size that they have, spread over it; 0 looks at the whole alone.
    """

    def __init__(self, eye: Eye, name: str, *, pieces: int = 4) -> None:
        if pieces < 0:
            raise ConfigError(f"pieces={pieces} is no number of pieces", where="annotate.detector.encoder")
        self._eye, self.name, self._pieces = eye, name, pieces
        self.version = address(eye=eye.version, pieces=pieces)[:16]

    def encode(self, pictures: Sequence[Pixels]) -> Vectors:
        """`[B, D]`, or `[B, 3 D]` with pieces. Raises DataError where the network gives no numbers."""
        views = [[each, *spread(each, self._pieces, side=self._eye.side)] for each in pictures]
        seen = self._eye.see([view for each in views for view in each])
        if not np.isfinite(seen).all():
            raise DataError(f"{self.name} gives numbers that are none", where=self.name, do="try it on another device")
        seen = seen.reshape(len(views), -1, seen.shape[1])
        parts = [seen[:, 0]] + ([seen[:, 1:].mean(1), seen[:, 1:].std(1)] if self._pieces else [])
        return np.asarray(np.concatenate(parts, 1), np.float32)


def open_encoder(folder: Path, name: str | None, *, pieces: int, device: str = "cpu", threads: int = 1) -> Encoder:
    """The encoder that lies in a folder, by what it holds. Raises ConfigError where it holds none."""
    if (folder / "model.onnx").is_file():
        return Encoder(OnnxEye(folder, threads=threads), name or folder.name, pieces=pieces)
    if (folder / "config.json").is_file():
        return Encoder(TorchEye(folder, device=device), name or folder.name, pieces=pieces)
    raise ConfigError(
        "neither model.onnx nor config.json is in it" if folder.is_dir() else f"there is no folder {folder}",
        where=f"annotate.detector.encoder.path={folder}",
        do="give a folder with an encoder of pictures: config.json and model.safetensors, or model.onnx",
    )

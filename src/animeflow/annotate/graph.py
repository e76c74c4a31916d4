"""A network that is an ONNX file: pictures in, numbers out. Knows onnxruntime; knows no label."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigError
from ..image.picture import Pixels
from .tagger import Wanted, read_wanted, version_of

FILE = "model.onnx"


class Graph:
    """`FOLDER/model.onnx`: one input of pictures, one output.

    A graph whose channels come last gets BGR values of 0 to 255, one whose channels come first RGB of 0 to 1: so the models that
    people use want it; `tagger.json` says where one is otherwise.

    Raises:
        ConfigError: onnxruntime is missing, or the folder holds no such model.
    """

    def __init__(self, folder: Path, *, threads: int = 1) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise ConfigError(
                "a model that is an .onnx file needs onnxruntime", where=str(folder), do="pip install 'animeflow[onnx]'"
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        try:
            known = onnxruntime.get_available_providers()
            self._session = onnxruntime.InferenceSession(str(folder / FILE), options, providers=known)
        except Exception as error:  # its own classes differ from version to version; all of them mean this
            told = " ".join(str(error).split())[:200]
            raise ConfigError(f"{FILE} cannot be read: {told}", where=str(folder)) from error
        self.version = version_of(folder / FILE)
        self._input = self._session.get_inputs()[0]
        shape = list(self._input.shape)
        if len(shape) != 4 or 3 not in (shape[1], shape[3]):
            raise ConfigError(f"its input is {shape}, and pictures are [B, 3, H, W] or [B, H, W, 3]", where=str(folder))
        self._first = shape[1] == 3
        sides = [side for side in (shape[2:] if self._first else shape[1:3]) if isinstance(side, int)]
        self.side = sides[0] if sides else 448
        self._alone = shape[0] == 1  # it takes one picture at a time
        self.wanted = read_wanted(folder, Wanted() if self._first else Wanted(channels="bgr", scale=255.0))

    def run(self, pictures: Sequence[Pixels]) -> NDArray[np.float32]:
        """Its first output for pictures of any size."""
        batch = self.wanted.batch(pictures, self.side, channels_first=self._first)
        parts = [batch[i : i + 1] for i in range(len(batch))] if self._alone else [batch]
        return np.concatenate([self._session.run(None, {self._input.name: part})[0] for part in parts])

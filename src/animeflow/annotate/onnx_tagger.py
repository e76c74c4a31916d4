"""A tagger whose network is a Graph with one score a label. Knows labels; knows no catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigError
from ..image.picture import Pixels
from .graph import Graph
from .tagger import read_labels


class OnnxTagger:
    """A `tagger.Tagger`.

    Args:
        folder: of `model.onnx` and its labels.
        name: how it signs; the folder's name by default.
        threads: of onnxruntime.
    """

    def __init__(self, folder: Path, *, name: str | None = None, threads: int = 1) -> None:
        self._graph, self.labels = Graph(folder, threads=threads), read_labels(folder)
        self.name, self.version = name or folder.name, self._graph.version

    def scores(self, pictures: Sequence[Pixels]) -> NDArray[np.float32]:
        found = self._graph.run(pictures)
        if found.shape != (len(pictures), len(self.labels)):
            raise ConfigError(
                f"{self.name} gives {list(found.shape)} numbers for {len(pictures)} pictures and {len(self.labels)} labels",
                where=self.name,
                do="see that the list of labels belongs to this model",
            )
        return self._graph.wanted.scores(found, self.name)

"""A tagger that transformers saved: an image classifier in safetensors. Knows transformers; knows no catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..core.errors import ConfigError
from ..core.files import read_json
from ..image.picture import Pixels
from .tagger import Wanted, read_labels, read_wanted, version_of

FILE = "model.safetensors"


class TorchTagger:
    """`FOLDER/config.json` with `model.safetensors`: a classifier with one logit a label.

    Args:
        folder: of the files.
        name: how it signs; the folder's name by default.
        device: where it runs.
    Raises:
        ConfigError: the folder holds no such classifier.
    """

    def __init__(self, folder: Path, *, name: str | None = None, device: str = "cpu") -> None:
        from transformers import AutoModelForImageClassification

        try:
            model = AutoModelForImageClassification.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"no image classifier could be read: {' '.join(str(error).split())[:200]}", where=str(folder)
            ) from error
        self._model, self._device = model.eval().to(device), device
        self.name, self.version = name or folder.name, version_of(folder / FILE)
        self.labels = read_labels(folder)
        size = getattr(model.config, "image_size", 224)
        self._side = int(size if isinstance(size, int) else size[0])
        self._wanted = read_wanted(folder, of_processor(folder))

    @torch.inference_mode()
    def scores(self, pictures: Sequence[Pixels]) -> NDArray[np.float32]:
        batch = torch.from_numpy(self._wanted.batch(pictures, self._side, channels_first=True))
        logits = self._model(pixel_values=batch.to(self._device)).logits.float().cpu().numpy()
        return self._wanted.scores(logits, self.name)


def of_processor(folder: Path) -> Wanted:
    """What `preprocessor_config.json` says of mean and deviation; the middle grey without one."""
    file = folder / "preprocessor_config.json"
    told = read_json(file) if file.is_file() else {}
    mean, std = told.get("image_mean", [0.5] * 3), told.get("image_std", [0.5] * 3)
    return Wanted(mean=tuple(mean), std=tuple(std), output="logit")

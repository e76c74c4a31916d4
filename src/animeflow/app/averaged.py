"""The weights that `animeflow ema` made out of a run's snapshots, as a file that says how. Knows files; knows no family."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ..core import files
from ..core.errors import DataError
from ..model.tensor_file import read_metadata, read_tensors, write_tensors

KEY = "animeflow.average"  # in the file's header: how the average was made, as JSON


def place_of(run: Path, sigma_rel: float, images: int | None = None) -> Path:
    """Where the average of this width of a run lies: three decimals, or as many as it takes. `images`: where not at its end."""
    short = f"{sigma_rel:.3f}"
    width = short if float(short) == sigma_rel else repr(sigma_rel)
    return run / "ema" / f"sigma_rel-{width}{'' if images is None else f'-{images}'}.safetensors"


def write_average(path: Path, tensors: Mapping[str, Tensor], made: Mapping[str, Any]) -> None:
    """Write the trainable parameters, whole or not at all. `made` is JSON: run, images, width, factors of the snapshots."""
    with files.atomic_path(path) as temporary:
        write_tensors(temporary, tensors, {KEY: files.canonical(made).decode()})


def read_average(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The trainable parameters under the names that checkpoints have, and how they were made. What did not train is in the run's
    checkpoint. Raises DataError for any other file."""
    made = read_metadata(path).get(KEY)
    if made is None:
        raise DataError(
            "this file is no average of a run",
            where=str(path),
            do="make one with 'animeflow ema name=RUN --sigma-rel 0.07'",
        )
    return read_tensors(path), json.loads(made)

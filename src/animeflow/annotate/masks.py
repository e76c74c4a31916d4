"""What a segmenter says of every pixel, written as masks beside the pictures, with the tool and version that made them.

`shard` with `data.shard.masks=auto` cuts a mask like its picture, and `recipe.mask` says how much the rest counts. A mask that is
there already is a person's, or an earlier tool's, and is left alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..catalogue.reading import read_file, split_path
from ..catalogue.walk import mask_of
from ..core.errors import ConfigError
from ..core.files import write_bytes, write_text
from ..core.log import progress
from ..image.decode import decode
from ..image.mask import encode_mask
from ..image.picture import BadPicture, Limits, Pixels
from ..image.square import unsquare
from .graph import Graph

RECORD = "masks.jsonl"

Segment = Callable[[Pixels], NDArray[np.uint8]]
"""uint8 RGB `[H, W, 3]` -> uint8 `[H, W]`: 255 counts."""


class OnnxSegmenter:
    """`FOLDER/model.onnx` with one output `[B, 1, h, w]`: how much of every pixel belongs to what was asked for."""

    def __init__(self, folder: Path, *, name: str | None = None) -> None:
        self._graph = Graph(folder)
        self.name, self.version = name or folder.name, self._graph.version

    def __call__(self, pixels: Pixels) -> NDArray[np.uint8]:
        height, width = pixels.shape[:2]
        found = self._graph.run([pixels])[0]
        plane = np.squeeze(found)
        if plane.ndim != 2 or plane.shape[0] != plane.shape[1]:
            raise ConfigError(
                f"{self.name} gives {list(found.shape)} numbers for a picture, and a mask is one square plane",
                where=self.name,
            )
        plane = self._graph.wanted.scores(plane, self.name)
        return unsquare((plane * 255).round().astype(np.uint8), height=height, width=width)


@dataclass
class Masked:
    """Masks written, pictures that had one, and those for which there can be none, by reason."""

    written: int = 0
    there: int = 0
    refused: dict[str, int] = field(default_factory=dict)


def write_masks(
    folder: Path,
    pictures: Iterable[tuple[int, Path]],
    segment: Segment,
    *,
    tool: str,
    version: str,
    limits: Limits | None = None,
) -> Masked:
    """Write `NAME.mask.png` beside every picture that has no mask, and a line on each into `masks.jsonl` of the catalogue."""
    result, every = Masked(), list(pictures)
    lines = (folder / RECORD).read_text(encoding="utf-8").splitlines() if (folder / RECORD).is_file() else []
    try:
        with progress(f"masks {tool}", len(every)) as advance:
            for uid, file in every:
                advance(1)
                if split_path(file) is not None:
                    reason: str | None = "in_an_archive"  # nothing can be written beside it
                elif mask_of(file) is not None:
                    result.there += 1
                    continue
                else:
                    reason = _write(file, segment, limits)
                if reason is None:
                    result.written += 1
                    lines.append(
                        json.dumps({"uid": uid, "mask": f"{file.stem}.mask.png", "tool": tool, "version": version})
                    )
                else:
                    result.refused[reason] = result.refused.get(reason, 0) + 1
    finally:  # what was written before something failed is told too
        if result.written:
            write_text(folder / RECORD, "".join(f"{line}\n" for line in lines))
    return result


def _write(file: Path, segment: Segment, limits: Limits | None) -> str | None:
    """Why there is no mask, None where it was written."""
    try:
        pixels = decode(read_file(file), limits=limits).pixels
    except BadPicture as bad:
        return bad.reason
    except OSError:
        return "missing_file"
    write_bytes(file.with_name(f"{file.stem}.mask.png"), encode_mask(segment(pixels)))
    return None

"""The oracle: a small network that reads toonworld's attributes back from pixels. Knows pictures; knows no prompt and
no model.

It turns "does the picture show what was asked?" into a number, so it is tested first: its record says how many
attributes of drawn pictures it never saw it reads right, and everything measured with it is bounded by that figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.errors import DataError
from ..core.files import address, atomic_folder, read_json, sha256_file, write_json
from ..toonworld.figure import TOP, WIDTH

SIDE = 96  # pixels; every picture is framed to a square and scaled to SIDE x SIDE, whatever its shape
FORMAT = 1

Vocabulary = Mapping[str, Sequence[str]]
Reading = dict[str, tuple[str, float]]
"""attribute -> (value, probability that the oracle gives it)."""


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x_BChw: Tensor) -> Tensor:
        return F.relu(x_BChw + self.norm(self.conv(x_BChw)))


def _stage(inputs: int, outputs: int, *, kernel: int = 3, stride: int = 2) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class OracleNet(nn.Module):
    """`[B, 3, SIDE, SIDE]` in [0, 1] -> logits `[B, sum of vocabulary sizes]`.

    The last map is read cell by cell, because where a thing is tells what it is; means and maxima of the earlier ones are read
    too, because line and texture are the same everywhere.
    """

    def __init__(
        self, classes: int, *, widths: tuple[int, int, int, int] = (16, 32, 64, 96), squeeze: int = 64
    ) -> None:
        super().__init__()
        a, b, c, d = widths
        self.low = nn.Sequential(_stage(3, a), _stage(a, b))
        self.middle = nn.Sequential(_stage(b, c), Residual(c))
        self.high = nn.Sequential(_stage(c, d), Residual(d), _stage(d, squeeze, kernel=1, stride=1))
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Linear(squeeze * (SIDE // 16) ** 2 + 2 * (b + c), classes)

    def forward(self, x_B3hw: Tensor) -> Tensor:
        low = self.low((x_B3hw - 0.5) * 4)
        middle = self.middle(low)
        high = self.high(middle)
        parts = [high.flatten(1), middle.mean((2, 3)), middle.amax((2, 3)), low.mean((2, 3)), low.amax((2, 3))]
        return self.head(self.dropout(torch.cat(parts, 1)))


def framed(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The square in which a solo figure of toonworld stands, `[H, W, 3]` -> `[S, S, 3]`: whatever the shape of the picture,
    the figure has the same place, size and proportions in it. Narrow pictures are continued sideways by their edge.

    The figure's size and foot follow `toonworld.draw.arrange`; where that moves, only the oracle's own test can get worse.
    """
    height, width = picture.shape[:2]
    side = min(height, round(width * REACH / FILL))
    if side == height:
        bottom = height
    else:
        scale = side * FILL
        spare = height - scale * FIGURE
        bottom = min(height, max(side, round(height - 0.015 * scale - 0.13 * spare + 0.017 * side)))
    cut = picture[bottom - side : bottom]
    left = (width - side) // 2
    if left >= 0:
        return cut[:, left : left + side]
    return np.pad(cut, ((0, 0), (-left, side - width + left), (0, 0)), mode="edge")


FIGURE = 1.0 - TOP  # height of a figure with a hat, in figure units
FILL = 0.97 / FIGURE  # figure units per height of a picture that height limits
REACH = 0.985 / WIDTH  # figure units per width of a picture that width limits


def resized(pictures: Sequence[NDArray[np.uint8]]) -> Tensor:
    """uint8 RGB `[H, W, 3]` of any sizes -> uint8 `[N, 3, SIDE, SIDE]`: framed, then scaled with antialiasing."""
    rows = torch.empty(len(pictures), 3, SIDE, SIDE, dtype=torch.uint8)
    for row, picture in zip(rows, pictures):
        x = torch.from_numpy(np.ascontiguousarray(framed(picture))).permute(2, 0, 1)[None].float()
        if x.shape[-2:] != (SIDE, SIDE):
            x = F.interpolate(x, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
        row.copy_(x[0].round().clamp(0, 255))
    return rows


class Oracle:
    """Reads attributes.

    Args:
        net: trained weights.
        vocabulary: attribute -> its values; their order is the order of the logits.
        record: how it was trained and what it scored, JSON values; see `training.train_oracle`.
    """

    def __init__(self, net: OracleNet, vocabulary: Vocabulary, record: Mapping[str, Any]) -> None:
        self.net = net.eval().requires_grad_(False)
        self.vocabulary = {name: tuple(values) for name, values in vocabulary.items()}
        self.record = dict(record)

    @property
    def attributes(self) -> tuple[str, ...]:
        return tuple(self.vocabulary)

    @torch.no_grad()
    def probabilities(self, pictures: Sequence[NDArray[np.uint8]], *, batch: int = 128) -> dict[str, Tensor]:
        """attribute -> `[N, values]`, float32 on the CPU. What else is in the list never changes a row."""
        sizes = [len(values) for values in self.vocabulary.values()]
        parts = [self.net(part.float() / 255) for part in resized(pictures).split(batch)]
        logits = torch.cat(parts) if parts else torch.zeros(0, sum(sizes))
        return {name: part.softmax(1) for name, part in zip(self.vocabulary, logits.split(sizes, dim=1))}

    def read(self, pictures: Sequence[NDArray[np.uint8]]) -> list[Reading]:
        """What every picture shows, one reading per picture."""
        readings: list[Reading] = [{} for _ in pictures]
        for name, rows in self.probabilities(pictures).items():
            confidence, index = rows.max(1)
            for reading, p, k in zip(readings, confidence.tolist(), index.tolist()):
                reading[name] = (self.vocabulary[name][k], p)
        return readings

    def save(self, folder: str | Path) -> None:
        """Write `oracle.safetensors` and `oracle.json` (vocabulary, record, hash of the weights); the folder is whole or absent."""
        with atomic_folder(folder) as temporary:
            weights = temporary / "oracle.safetensors"
            save_file({name: tensor.contiguous() for name, tensor in self.net.state_dict().items()}, weights)
            facts = {"format": FORMAT, "vocabulary": _pairs(self.vocabulary), "record": self.record}
            write_json(temporary / "oracle.json", {**facts, "sha256": sha256_file(weights)})

    @classmethod
    def load(cls, folder: str | Path, *, vocabulary: Vocabulary | None = None) -> Oracle:
        """The pair of `save`. Raises DataError when files are missing or changed, or when `vocabulary` is given and differs: an
        oracle of another world would answer with words that no prompt asks for."""
        folder = Path(folder)
        rebuild = "train it again: animeflow oracle"
        if not folder.is_dir():
            raise DataError(
                "there is no oracle here",
                where=str(folder),
                why="it reads back what a drawn picture shows, which adherence is measured by",
                do="train it by 'animeflow oracle' with the same experiment=..., or go without: evaluate.oracle=null",
            )
        try:
            facts = read_json(folder / "oracle.json")
            if facts["sha256"] != sha256_file(folder / "oracle.safetensors"):
                raise DataError(
                    "the oracle's weights are not the ones its record describes", where=str(folder), do=rebuild
                )
            known = {name: tuple(values) for name, values in facts["vocabulary"]}
            net = OracleNet(sum(map(len, known.values())))
            net.load_state_dict(load_file(folder / "oracle.safetensors"))
        except (OSError, KeyError, ValueError, RuntimeError) as error:
            raise DataError(f"no oracle can be loaded: {error}", where=str(folder), do=rebuild) from error
        if vocabulary is not None and _pairs(vocabulary) != _pairs(known):
            raise DataError("the oracle reads other attributes than this world has", where=str(folder), do=rebuild)
        return cls(net, known, facts["record"])

    @property
    def fingerprint(self) -> str:
        """Address of the weights and the vocabulary: two figures compare only when it is the same."""
        hashes = {name: tensor.numpy().tobytes().hex() for name, tensor in self.net.state_dict().items()}
        return address(weights=hashes, vocabulary=_pairs(self.vocabulary))


def _pairs(vocabulary: Vocabulary) -> list[list[Any]]:
    """As JSON that keeps the order, which is the order of the logits."""
    return [[name, list(values)] for name, values in vocabulary.items()]

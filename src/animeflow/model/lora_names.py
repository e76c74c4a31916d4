"""Names of layers in tables for LoRA files, the number of a block left open. Knows names; knows no tensor and no family."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from .names import Pair

BLOCK = re.compile(r"(?<=blocks[._])\d+(?=[._])")  # the number of a block, which `#` stands for in a table
WEIGHT = ".weight"


@dataclass(frozen=True)
class Row:
    """One layer of the original file and the layers of ours that are in it.

    Attributes:
        swapped: a modulation of two parts (twice as many rows as columns) has its halves the other way round there; one of six has
            not. SD3's last block and final layer are so, and shapes tell a block's place where a LoRA knows no depth.
    """

    original: str
    layers: tuple[str, ...]
    swapped: bool = False


def rows_of(pairs: Iterable[Pair], *, but: str) -> tuple[Row, ...]:
    """The linear layers of a table of all tensors; `but` is a pattern of original names that are none."""
    found: dict[str, Row] = {}
    for pair in pairs:
        if pair.original.endswith(WEIGHT) and not re.search(but, pair.original):
            original, layers = pattern_of(pair.original), tuple(pattern_of(name) for name in pair.diffusers)
            before = found.get(original)
            found[original] = Row(original, layers, pair.form == "swapped" or (before is not None and before.swapped))
    return tuple(found.values())


def pattern_of(name: str) -> str:
    """A layer's name with `#` for the number of its block."""
    return BLOCK.sub("#", name.removesuffix(WEIGHT), count=1)


@dataclass(frozen=True)
class Spelling:
    """How the name of a layer becomes the beginning of a key.

    Attributes:
        prefix: before the name.
        original: names of the original file, else ours.
        joint: what dots become.
        of: the beginning of our names that `prefix` takes the place of.
    """

    prefix: str
    original: bool = False
    joint: str = "."
    of: str = ""

    def spell(self, name: str) -> str:
        return self.prefix + name.removeprefix(self.of).replace(".", self.joint)

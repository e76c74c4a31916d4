"""A second look at the files of a LoRA before they are called done: each is read as another program would. Knows audits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.errors import DataError

ROUNDED = 2e-2  # of |delta W|: what 16 bits may move between two dialects; in float32 it is learn.check.EXACT


@dataclass(frozen=True)
class Verdict:
    """Every file is sound. `apart` is the largest |delta W - delta W'| / |delta W| between two files."""

    layers: int
    files: int
    apart: float
    warnings: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        return (
            f"verified: {self.layers} of {self.layers} layers in each of {self.files} files, no key left over; every dialect gives "
            f"the same delta W (to {max(self.apart, 1e-16):.0e})"
        )


def verify(files: Mapping[str, Path], *, family: Any, layers: int) -> Verdict:
    """Read every file back, audit what it adds, and compare it with the first.

    Args:
        files: dialect -> file or folder.
        layers: that were trained.
    Raises:
        DataError: a file lacks something, adds something else than the others, or is unsound.
    """
    import torch

    from ...learn.check import EXACT, audit, compare
    from ...learn.files import read_lora

    outline = family.outline()
    sizes = {name: tuple(tensor.shape) for name, tensor in outline.state_dict().items()}
    shapes = {name: sizes[f"{module}.weight"] for name, module in family.lora_layers(outline).items()}
    first: Any = None
    apart, warnings = 0.0, list[str]()
    for dialect, path in files.items():
        found = read_lora(path, family=family.name)
        if found.dialect != dialect or len(found.state) != layers:
            raise _unsound(path, f"{len(found.state)} of {layers} layers are in it, in the names of {found.dialect}")
        if first is None:
            first = found
            report = audit(found.state, dialects=family.dialects(), dialect=dialect, shapes=shapes)
            wrong = [finding for finding in report.findings if finding.level == "error"]
            if wrong:
                raise _unsound(path, "; ".join(finding.what for finding in wrong))
            warnings += [finding.what for finding in report.findings if finding.level == "warning"]
            continue
        distance = compare(first.state, found.state)
        if distance > (EXACT if found.dtype is torch.float32 else ROUNDED):
            raise _unsound(path, f"it adds something else than {next(iter(files.values())).name}: {distance:.1e} apart")
        apart = max(apart, distance)
    return Verdict(layers, len(files), apart, tuple(warnings))


def _unsound(path: Path, what: str) -> DataError:
    return DataError(
        f"this file is not whole: {what}", where=str(path), why="a program would draw something else than was trained",
        do="keep the run, its checkpoints are untouched, and report this; 'animeflow lora check FILE' says more",
    )  # fmt: skip

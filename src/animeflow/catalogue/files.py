"""The files below a folder, of millions about 80 bytes each. Knows paths; opens no file."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from .index import Sorted, number_of


class Files:
    """In the order in which they are given.

    Args:
        root: the folder. paths: below it, each once.
    """

    def __init__(self, root: Path, paths: Iterable[Path]) -> None:
        self.root = root
        self._names, self._ends, numbers = bytearray(), array("Q", [0]), array("Q")
        for path in paths:
            name = os.path.relpath(path, root) if not path.is_relative_to(root) else str(path.relative_to(root))
            self._names += os.fsencode(name)
            self._ends.append(len(self._names))
            numbers.append(number_of(name))
        self._by_name = Sorted(np.frombuffer(numbers, np.uint64))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, at: int) -> Path:
        return self.root / self._name(at)

    def __iter__(self) -> Iterator[Path]:
        return (self[at] for at in range(len(self)))

    def __contains__(self, path: object) -> bool:
        return isinstance(path, Path) and self.find(path) is not None

    def find(self, path: Path) -> int | None:
        """The place of a path."""
        if not path.is_relative_to(self.root):
            return None
        name = str(path.relative_to(self.root))
        return next((at for at in self._by_name.find(number_of(name)) if self._name(at) == name), None)

    def _name(self, at: int) -> str:
        return os.fsdecode(bytes(self._names[self._ends[at] : self._ends[at + 1]]))

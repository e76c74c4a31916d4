"""The files below a folder, of millions about 80 bytes each. Knows paths; opens no file."""

from __future__ import annotations

import os
import unicodedata
from array import array
from collections.abc import Iterable, Iterator
from functools import cached_property
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

    def spelled(self, path: Path) -> Path | None:
        """The path as it is written here: itself, else one that reads the same. A name from a Mac may have its accents as signs of
        their own."""
        if self.find(path) is not None:
            return path
        if not path.is_relative_to(self.root) or not self._others:
            return None
        name = unicodedata.normalize("NFC", str(path.relative_to(self.root)))
        places = self._by_reading.find(number_of(name))
        found = (self._others[at] for at in places)
        return next((self[at] for at in found if unicodedata.normalize("NFC", self._name(at)) == name), None)

    @cached_property
    def _others(self) -> array[int]:
        """Places of names with signs that can be written in several ways."""
        return array("Q", (at for at in range(len(self)) if not self._name(at).isascii()))

    @cached_property
    def _by_reading(self) -> Sorted:
        names = (unicodedata.normalize("NFC", self._name(at)) for at in self._others)
        return Sorted(np.frombuffer(array("Q", map(number_of, names)), np.uint64))

    def _name(self, at: int) -> str:
        return os.fsdecode(bytes(self._names[self._ends[at] : self._ends[at + 1]]))

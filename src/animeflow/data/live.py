"""Captions rendered and encoded when they are read, a whole step at once. Knows a frozen tower by its protocol; knows no file.

On a GPU the tower works on a stream of its own, in the thread that asks; it and what trains there do not wait for each other.
Rows come back to the CPU rounded as the cache rounds them, so that what follows cannot tell them from cached ones.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch

from ..core.errors import DataError
from ..model.protocol import TextRow, TextTower
from . import rows8
from .place import OutOfReach
from .texts import EMPTY, stored

Image = tuple[int, ...]
"""A picture and a visit; a third number where something else than its caption is asked for."""

Walk = Callable[..., Iterator[Any]]
"""`map`, or one that works side by side."""


class LiveTexts:
    """Rows of the captions of visits.

    Args:
        tower: encodes. It is used by one thread at a time, whoever else holds it.
        caption: what is said of an image, called with its numbers; raises DataError where the facts of a picture cannot be read.
        text_dtype: how the cache would round.
        device: the tower goes there and stays; None leaves it where it is.
    """

    def __init__(
        self,
        tower: TextTower,
        caption: Callable[..., str],
        *,
        text_dtype: str,
        device: torch.device | str | None = None,
    ) -> None:
        self._tower, self._caption, self._text_dtype = tower, caption, text_dtype
        self._ahead: dict[Image, TextRow] = {}
        self._empty: TextRow | None = None
        self._stream: torch.cuda.Stream | None = None
        if device is not None:
            tower.to(device)
            if torch.device(device).type == "cuda":
                self._stream = torch.cuda.Stream(device)
                self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))  # which moved the weights

    def ahead(self, images: Sequence[Image], *, walk: Walk = map) -> None:
        """Encode what `rows` will be asked for, all together, and forget what was encoded before. A picture whose facts cannot be
        read is left to `rows`, which says so to whom it concerns."""
        said = {
            image: text for image, text in zip(images, walk(self._readable, images), strict=True) if text is not None
        }
        self._ahead = dict(zip(said, self.encode(list(said.values())), strict=True))

    def rows(self, images: Sequence[Image], *, walk: Walk = map) -> list[TextRow]:
        """One row per image, in the dtype of the cache. Who was not announced is encoded now.

        Raises:
            DataError: the facts of a picture cannot be read.
        """
        late = [image for image in dict.fromkeys(images) if image not in self._ahead]
        captions = list(walk(self._caption, *zip(*late, strict=True))) if late else []
        known = self._ahead | dict(zip(late, self.encode(captions), strict=True))
        return [known[image] for image in images]

    def encode(self, captions: Sequence[str]) -> list[TextRow]:
        """One row per caption; equal ones are encoded once, and the empty one once for all."""
        different = sorted(set(captions) - {EMPTY})
        rows = dict(zip(different, self._encode(different), strict=True)) if different else {}
        if EMPTY in captions:
            if self._empty is None:  # alone, so that its numbers do not depend on who was first beside it
                (self._empty,) = self._encode([EMPTY])
            rows[EMPTY] = self._empty
        return [rows[caption] for caption in captions]

    # -- inside --------------------------------------------------------------------------------------------------------

    def _encode(self, captions: Sequence[str]) -> list[TextRow]:
        with torch.no_grad(), self._beside():
            rows = self._tower.encode(captions)
        return [rows8.unpack(stored(row, self._text_dtype)) for row in rows]

    def _beside(self) -> AbstractContextManager[Any]:
        return torch.cuda.stream(self._stream) if self._stream is not None else contextlib.nullcontext()

    def _readable(self, image: Image) -> str | None:
        try:
            return self._caption(*image)
        except OutOfReach:
            raise
        except DataError:
            return None

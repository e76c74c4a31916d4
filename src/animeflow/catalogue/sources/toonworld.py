"""A folder of drawn pictures with `truth.jsonl`, and what was planted among them. Knows lines; draws and decodes nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...core.errors import DataError
from ...text.tags import CATEGORIES
from ...toonworld.planted import NAME as PLANTED
from ..candidate import Candidate, Facts
from .fields import plain
from .matching import below


class ToonworldSource:
    """Pictures that toonworld drew. All are rated general, and their origin is known: a program.

    Args:
        root: the folder with `truth.jsonl`.
        name: how its posts are marked.
    """

    def __init__(self, root: Path, *, name: str = "toonworld") -> None:
        self.root, self.name = Path(root), name

    def __iter__(self) -> Iterator[Candidate]:
        truth = self.root / "truth.jsonl"
        if not truth.is_file():
            raise DataError(f"there is no {truth}", do="draw the pictures first, or check the path")
        for place in (truth, self.root / PLANTED):
            for number, line in _lines(place):
                try:
                    yield self._candidate(line)
                except (TypeError, ValueError, AttributeError, KeyError) as error:
                    raise _not_ours(place, number, f"{type(error).__name__}: {error}") from error

    def _candidate(self, line: dict[str, Any]) -> Candidate:
        """Raises what a line of another shape raises: nobody but toonworld writes them."""
        file = below(self.root, line["file"])
        if file is None:
            raise ValueError("it names a file outside of the folder")
        if not os.path.isfile(file):
            return Candidate(file, reason="missing_picture", detail="named in truth.jsonl, but not here")
        tags = {category: [_text(tag) for tag in line.get("tags", {}).get(category, [])] for category in CATEGORIES}
        facts = Facts(
            tags=tags,
            captions={_text(language): _text(text) for language, text in line.get("captions", {}).items()},
            rating="general",
            source_id=plain(line.get("index")),
            origin="drawn_by_program",
            truth=_object(line.get("truth") or line.get("scene")),
        )
        return Candidate(file, facts)


def _lines(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Numbered lines of a file, where there is one."""
    if not file.is_file():
        return
    for number, text in enumerate(file.read_bytes().splitlines(), 1):
        try:
            yield number, json.loads(text.decode())
        except (ValueError, RecursionError) as error:
            raise _not_ours(file, number, str(error)) from error


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} where text is expected")
    return plain(value) or ""


def _object(value: Any) -> dict[str, Any] | None:
    if value is not None:
        json.dumps(value, ensure_ascii=False).encode()  # halves of characters could not be stored
        return dict(value)
    return None


def _not_ours(file: Path, number: int, why: str) -> DataError:
    return DataError(
        f"line {number} of {file} is not as toonworld writes it", why=why[:200], do="draw the folder again"
    )

"""A folder of drawn pictures with `truth.jsonl`, and what was planted among them. Knows lines; draws and decodes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...core.errors import DataError
from ...text.tags import CATEGORIES
from ...toonworld.planted import read_planted
from ..candidate import Candidate, Facts


class ToonworldSource:
    """Pictures that toonworld drew. All are rated general, and their origin is known: a program.

    Args:
        root: the folder with `truth.jsonl`.
        name: how its posts are marked.
    """

    def __init__(self, root: Path, *, name: str = "toonworld") -> None:
        self.root, self.name = Path(root), name

    def __iter__(self) -> Iterator[Candidate]:
        for line in (*self._lines(), *read_planted(self.root)):
            file = self.root / line["file"]
            if not file.is_file():
                yield Candidate(file, reason="missing_picture", detail="named in truth.jsonl, but not here")
                continue
            tags = {category: list(line.get("tags", {}).get(category, [])) for category in CATEGORIES}
            facts = Facts(
                tags=tags,
                captions=dict(line.get("captions", {})),
                rating="general",
                source_id=None if line.get("index") is None else str(line["index"]),
                origin="drawn_by_program",
                truth=line.get("truth") or line.get("scene"),
            )
            yield Candidate(file, facts)

    def _lines(self) -> Iterator[dict[str, Any]]:
        file = self.root / "truth.jsonl"
        if not file.is_file():
            raise DataError(f"there is no {file}", do="draw the pictures first, or check the path")
        for number, text in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            try:
                yield json.loads(text)
            except json.JSONDecodeError as error:
                raise DataError(
                    f"line {number} of {file} is not JSON", why=str(error), do="draw the folder again"
                ) from error

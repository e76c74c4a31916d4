"""What `animeflow unpack` took out of archives and videos. Knows `unpacked.jsonl` and text beside pictures; decodes nothing.

`source_id` is the file's place in the folder; the `parent` of a sprite is the first one of its figure, as the game names them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...core.errors import DataError
from ...text.script import known_language
from ..archive.unpack import REFUSED, ROWS, read_rows
from ..candidate import Candidate, Facts
from ..walk import files_in, is_picture, not_a_picture
from .fields import plain
from .folder import SIDECARS
from .matching import below
from .sidecar import read_text


class UnpackedSource:
    """Pictures below `root` that `unpacked.jsonl` names, with `.txt` and `.caption` files that were laid beside them later.

    Args:
        root: the folder that `unpack` wrote.
        name: how its posts are marked.
        language: of sentences. rating, origin: of all of them.
    """

    def __init__(
        self, root: Path, *, name: str = "unpacked", language: str = "en",
        rating: str = "unknown", origin: str = "unknown",
    ) -> None:  # fmt: skip
        self.root, self.name = Path(root), name
        self.language = known_language(language, where="catalogue.source.language")
        self.rating, self.origin = rating, origin
        if not (self.root / ROWS).is_file():
            raise DataError(
                f"there is no {ROWS} in {self.root}", do="unpack first: animeflow unpack FILE... --into FOLDER; "
                "pictures of your own are read with catalogue=folder",
            )  # fmt: skip

    def __iter__(self) -> Iterator[Candidate]:
        named = set()
        for row in read_rows(self.root / ROWS):
            file = below(self.root, str(row.get("file") or ""))
            if file is None:
                yield Candidate(self.root / ROWS, reason="bad_sidecar", detail="a row names a file outside the folder")
                continue
            named.add(file)
            if not os.path.isfile(file):
                yield Candidate(file, reason="missing_picture", detail=f"named in {ROWS}, but not here")
            else:
                yield self._candidate(file, row)
        yield from self._left_over(named)

    def _candidate(self, file: Path, row: dict[str, Any]) -> Candidate:
        facts = Facts(
            rating=self.rating, origin=self.origin, source_id=plain(row["file"]), parent=plain(row.get("version_of")),
            licence=plain(row.get("licence")),
        )  # fmt: skip
        for suffix in SIDECARS:
            for text in (file.with_suffix(suffix), file.with_name(file.name + suffix)):
                if not os.path.isfile(text):
                    continue
                try:
                    content = text.read_text(encoding="utf-8-sig").strip()
                except UnicodeDecodeError:
                    return Candidate(file, reason="bad_sidecar", detail=f"{text.name} is not UTF-8")
                read_text(content, facts, language=self.language, expected=suffix == ".caption")
        return Candidate(file, facts)

    def _left_over(self, named: set[Path]) -> Iterator[Candidate]:
        for file in files_in(self.root):
            if file in named or file.name in (ROWS, REFUSED) or file.suffix.lower() in SIDECARS:
                continue
            if is_picture(file):
                yield Candidate(file, reason="missing_metadata", detail=f"{ROWS} does not name it")
            else:
                yield Candidate(file, reason="unknown_format", detail=not_a_picture(file))

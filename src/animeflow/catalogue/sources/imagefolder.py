"""Hugging Face's ImageFolder: metadata.jsonl, .csv or .parquet with `file_name`, beside or above the pictures. Decodes nothing.

`file_name` is relative to the folder of its metadata file. `text` is a sentence or tags; other columns of common names are read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from ...core.errors import DataError
from ...text.script import known_language
from ..candidate import Candidate
from ..files import Files
from ..walk import files_in, is_picture, not_a_picture
from .dump import is_pickled, read_records
from .matching import below
from .sidecar import read_row

METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")


class ImageFolderSource:
    """Pictures below `root` and the rows about them.

    Args:
        root: the folder, with a metadata file in it or in folders below.
        name: how its posts are marked.
        language: of `text` and `caption`; `caption_ja` says its own.
        rating: of pictures whose row does not say.
        origin: human, ai, ai_assisted or unknown, of those whose row does not say.
    """

    def __init__(
        self,
        root: Path,
        *,
        name: str = "imagefolder",
        language: str = "en",
        rating: str = "unknown",
        origin: str = "unknown",
    ) -> None:
        self.root, self.name = Path(root), name
        self.language = known_language(language, where="catalogue.source.language")
        self.rating, self.origin = rating, origin

    def __iter__(self) -> Iterator[Candidate]:
        taken = bytearray(len(self._files))
        for file in self._tables:
            for record in read_records(file):
                candidate = self._candidate(file, record.place, record.value, record.problem)
                if (place := self._files.find(candidate.path)) is not None:
                    taken[place] = 1
                yield candidate
        tables = set(self._tables)
        for place, file in enumerate(self._files):
            if taken[place] or file in tables:
                continue
            if is_picture(file):
                yield Candidate(file, reason="missing_metadata", detail="no row names it")
            else:
                yield Candidate(file, reason="unknown_format", detail=not_a_picture(file))

    @cached_property
    def _files(self) -> Files:
        return Files(self.root, files_in(self.root))

    @cached_property
    def _tables(self) -> list[Path]:
        found = [file for file in self._files if file.name in METADATA]
        if not found:
            raise DataError(
                f"{self.root} has no metadata", do=f"put one of {', '.join(METADATA)} there, or use catalogue=folder"
            )
        return found

    def _candidate(self, table: Path, place: str, row: Mapping[str, Any] | None, problem: str) -> Candidate:
        here = table.with_name(place)
        if row is None:
            return Candidate(here, reason="bad_metadata", detail=problem)
        if is_pickled(row):
            return Candidate(here, reason="pickled_sidecar", detail="it holds a pickle, which is never opened")
        name = row.get("file_name") or next((row[key] for key in row if str(key).endswith("_file_name")), None)
        if not isinstance(name, str):
            return Candidate(here, reason="bad_metadata", detail="no file_name")
        picture = below(table.parent, name)
        if picture is None:
            return Candidate(here, reason="bad_metadata", detail=f"{name[:200]} leads out of the folder")
        picture = self._files.spelled(picture) or picture
        if not os.path.isfile(picture):  # a Path raises for a name that is too long
            return Candidate(picture, reason="missing_picture", detail=f"named in {place}, but not here")
        facts = read_row(row, language=self.language, rating=self.rating, origin=self.origin)
        return Candidate(picture, facts)

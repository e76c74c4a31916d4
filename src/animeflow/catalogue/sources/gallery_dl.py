"""Folders that gallery-dl filled: PICTURE.ext and PICTURE.ext.json, from any of its sites. Knows its metadata; decodes nothing.

Metadata without a picture and pictures without metadata are reported. `.txt` of `--write-tags` repeats what the JSON says and is
passed over; hidden files, waifuc's pickled sidecars among them, are never opened.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..candidate import Candidate
from ..walk import PICTURE_SUFFIXES, files_in, is_picture, not_a_picture
from .booru import read_post


class GalleryDlSource:
    """Pictures with gallery-dl's JSON beside them, below `root`. The key `category` of each file says which site it is from.

    Args:
        root: the folder.
        name: how its posts are marked.
        before_2022: the folder was filled when Danbooru's rating letter `s` meant safe.
    """

    def __init__(self, root: Path, *, name: str = "gallery-dl", before_2022: bool = False) -> None:
        self.root, self.name, self.before_2022 = Path(root), name, before_2022

    def __iter__(self) -> Iterator[Candidate]:
        files = list(files_in(self.root))
        present = set(files)
        for file in files:
            if file.suffix.lower() == ".json" and _describes(file):
                picture = file.with_suffix("")
                if picture not in present:
                    yield Candidate(picture, reason="missing_picture", detail=f"only {file.name} is here")
            elif file.suffix.lower() == ".txt" and _describes(file):
                continue
            elif is_picture(file):
                yield self._candidate(file, file.with_name(file.name + ".json"), present)
            else:
                yield Candidate(file, reason="unknown_format", detail=not_a_picture(file))

    def _candidate(self, picture: Path, sidecar: Path, present: set[Path]) -> Candidate:
        if sidecar not in present:
            return Candidate(picture, reason="missing_metadata", detail=f"no {sidecar.name} beside it")
        try:
            record = read_sidecar(sidecar)
        except (ValueError, OSError) as error:
            return Candidate(picture, reason="bad_sidecar", detail=f"{sidecar.name}: {str(error)[:120]}")
        return Candidate(picture, read_post(record, record["category"], before_2022=self.before_2022))


def read_sidecar(file: Path) -> dict[str, Any]:
    """A metadata object with a `category`. Raises ValueError for anything else; values are data and never unpickled."""
    record = json.loads(file.read_text(encoding="utf-8-sig"))
    if not isinstance(record, dict) or not isinstance(record.get("category"), str):
        raise ValueError("not an object with the site under `category`")
    return record


def _describes(file: Path) -> bool:
    """Whether a sidecar's name is a picture's name with one suffix more."""
    return file.with_suffix("").suffix.lower() in PICTURE_SUFFIXES

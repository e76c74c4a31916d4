"""Several folders in one catalogue, each the pictures of a concept. Knows folders and names; knows no trigger.

The concept of a picture is its `Post.source`. A folder that lies inside another concept's folder belongs to its own concept alone.
The same picture in two concepts is taken for the one named first, and listed among the rejected for the other.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ...core.errors import ConfigError
from ..candidate import Candidate
from ..walk import files_in, is_picture
from .folder import FolderSource

WHERE = "catalogue.source.concepts"


class ConceptsSource:
    """Pictures of concepts, one folder after the other.

    Args:
        folders: one per concept, called what the concept is called.
    Raises:
        ConfigError: there is none, a folder is missing, holds no picture, or is that of two concepts.
    """

    name = "concepts"

    def __init__(self, folders: Sequence[FolderSource]) -> None:
        self.folders = tuple(folders)
        if not self.folders:
            raise ConfigError(
                "no concept is named", where=WHERE, do="give each its folder: {eileen: {root: pictures/eileen}}"
            )
        owners: dict[Path, str] = {}
        for folder in self.folders:
            self._check(folder, owners)
        self.root = Path(os.path.commonpath(list(owners)))

    def __iter__(self) -> Iterator[Candidate]:
        for folder in self.folders:
            inside = self._inside(folder)
            for candidate in folder:
                # A file may be a link to one elsewhere: where it was put is what counts.
                if not any(_absolute(candidate.path.parent).is_relative_to(other) for other in inside):
                    candidate.facts.source = folder.name
                    yield candidate

    def _inside(self, folder: FolderSource) -> list[Path]:
        """Folders of other concepts below this one."""
        mine, others = _absolute(folder.root), (_absolute(other.root) for other in self.folders)
        return [other for other in others if other != mine and other.is_relative_to(mine)]

    def _check(self, folder: FolderSource, owners: dict[Path, str]) -> None:
        where, place = f"{WHERE}.{folder.name}", _absolute(folder.root)
        if not place.is_dir():
            raise ConfigError(f"there is no folder {folder.root}", where=where, do="give the folder of its pictures")
        if place in owners:
            raise ConfigError(
                f"{folder.root} is the folder of '{owners[place]}' too",
                where=where,
                why="a picture belongs to one concept",
                do="give each concept a folder of its own",
            )
        owners[place] = folder.name
        inside = self._inside(folder)
        own = (file for file in files_in(place) if not any(file.is_relative_to(other) for other in inside))
        if not any(map(is_picture, own)):
            raise ConfigError(f"there is no picture in {folder.root}", where=where, do="put pictures there")


def _absolute(path: Path) -> Path:
    return path.absolute().resolve()

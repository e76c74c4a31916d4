"""Tars with an index beside them, and the posts of their pictures in a table. Nothing is unpacked: pictures are read in place.

Layout of hfutils, cheesechaser and webshart: 0001.tar, 0001.json, and rows of posts as Parquet or JSON lines. Without a table, a
picture's facts are those of NAME.json, NAME.txt or NAME.caption beside it in the tar. Decodes nothing.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from ...core.errors import DataError
from ...core.files import sha256_file
from ...text.script import known_language
from ..candidate import Candidate, Facts
from ..index import Texts
from ..reading import TAR, Index, index_of, member_path, read_file, read_index
from ..shelf import Shelf
from ..walk import PICTURE_SUFFIXES, files_in, not_a_picture
from .booru import read_post
from .dump import is_pickled, read_files, read_records
from .matching import PATHS, keys_in, keys_of
from .ratings import rated_before_2022
from .sidecar import read_row, read_text
from .sites import AUTO, is_of, known_site, site_of

log = logging.getLogger(__name__)

TEXTS = (".json", ".txt", ".caption")


class IndexedTarSource:
    """Pictures in the tars below `root`. What there is the tars say: rows of posts that are in none of them are no candidates.
    Rows of those that are there wait in a temporary file.

    Args:
        root: the folder with the tars and their indices.
        posts: the rows: Parquet, JSON, JSON lines, or a folder of such; null: what lies in the tars beside the pictures.
        name: how its posts are marked.
        site: that the rows are from, or `auto`: their own shape tells.
        before_2022: whether the rows are from when Danbooru's rating letter `s` meant safe; null: their dates and letters tell.
        verify: read every tar whole first and compare it with the sha256 that its index names.
        language: of sentences in the tars.
    """

    def __init__(
        self,
        root: Path,
        *,
        posts: Path | None = None,
        name: str = "tars",
        site: str = AUTO,
        before_2022: bool | None = None,
        verify: bool = False,
        language: str = "en",
    ) -> None:
        self.root, self.posts, self.name = Path(root), None if posts is None else Path(posts), name
        self.site, self.before_2022, self.verify = known_site(site), before_2022, verify
        self.language = known_language(language, where="catalogue.source.language")

    def __iter__(self) -> Iterator[Candidate]:
        files = list(files_in(self.root))
        tars = [file for file in files if file.suffix.lower() == TAR]
        if not tars:
            raise DataError(f"there is no tar below {self.root}", do="give the folder of the tars and their indices")
        rows = None
        if self.posts is not None:
            names = (name for tar in tars for name in _pictures(tar))
            rows = PostRows(self.posts, names, site=self.site, before_2022=self.before_2022)
            yield from rows.refused
        for tar in tars:
            yield from self._tar(tar, rows)
        known = {*tars, *map(index_of, tars)}
        for file in files:
            if file not in known and file.absolute() not in self._dumps:
                yield Candidate(file, reason="unknown_format", detail=not_a_picture(file))

    @cached_property
    def _dumps(self) -> set[Path]:
        if self.posts is None:
            return set()
        return {file.absolute() for file in (read_files(self.posts) if self.posts.is_dir() else [self.posts])}

    def _tar(self, tar: Path, rows: PostRows | None) -> Iterator[Candidate]:
        try:
            index = read_index(tar)
        except FileNotFoundError:
            yield Candidate(tar, reason="missing_index", detail=f"no {index_of(tar).name} beside it")
            return
        except DataError as error:
            yield Candidate(tar, reason="bad_index", detail=error.what)
            return
        if problem := self._problem(tar, index):
            yield Candidate(tar, reason="changed_archive", detail=problem)
            return
        for number, (name, why) in enumerate(index.refused.items()):
            place = tar.with_name(f"{tar.name} entry {number}")  # its own name is what was refused
            yield Candidate(place, reason="bad_index", detail=f"{name[:200]!r}: {why}")
        stems = {
            str(PurePosixPath(name).with_suffix("")) for name in index.members if _suffix(name) in PICTURE_SUFFIXES
        }
        for name in index.members:
            path = member_path(tar, name)
            if _suffix(name) in PICTURE_SUFFIXES:
                yield self._beside(tar, name, index) if rows is None else self._told(tar, name, rows)
                continue
            owner = str(PurePosixPath(name).with_suffix(""))
            if _suffix(name) not in TEXTS:
                yield Candidate(path, reason="unknown_format", detail="neither a picture nor a sidecar, by its name")
            elif owner not in stems and owner not in index.members:
                yield Candidate(path, reason="missing_picture", detail=f"the tar has no picture called {owner}")

    def _problem(self, tar: Path, index: Index) -> str | None:
        """Why nothing in a tar can be believed."""
        size = tar.stat().st_size
        if index.bytes is not None and size != index.bytes:
            return f"it has {size:,} bytes; its index says {index.bytes:,}"
        if self.verify and index.sha256 is not None and sha256_file(tar) != index.sha256:
            return "its sha256 is not the one that its index names"
        return None

    def _told(self, tar: Path, name: str, rows: PostRows) -> Candidate:
        facts = rows.facts(name, language=self.language)
        if facts is None:
            return Candidate(
                member_path(tar, name), reason="missing_metadata", detail="no post has its md5, id or path"
            )
        return Candidate(member_path(tar, name), facts)

    def _beside(self, tar: Path, name: str, index: Index) -> Candidate:
        """The picture with what lies beside it in the tar."""
        path, facts = member_path(tar, name), Facts()
        stem = str(PurePosixPath(name).with_suffix(""))
        for text in (owner + end for end in TEXTS for owner in (name, stem) if owner + end in index.members):
            try:
                content = read_file(member_path(tar, text)).decode("utf-8-sig")
                if text.endswith(".json"):
                    facts = read_row(_object(content), language=self.language)
                else:
                    read_text(content.strip(), facts, language=self.language, expected=text.endswith(".caption"))
            except (ValueError, OSError, RecursionError) as error:
                return Candidate(path, reason="bad_sidecar", detail=f"{text}: {str(error)[:120]}")
        return Candidate(path, facts)


class PostRows:
    """The rows of a table that are about the given pictures.

    Args:
        posts: the table. names: of all pictures in the tars. site: or `auto`.
        before_2022: see `IndexedTarSource`.
    """

    def __init__(self, posts: Path, names: Iterable[str], *, site: str, before_2022: bool | None) -> None:
        self.refused: list[Candidate] = []
        self._site, self._rows = site, Shelf()
        wanted = Texts()
        for key in (key for name in names for key in _keys(name)):
            wanted.add(key)
        elsewhere = 0
        for record in read_records(posts):
            row = record.value
            if row is None or (problem := self._problem(row)):
                place, detail = posts.with_name(record.place), record.problem if row is None else problem
                self.refused.append(Candidate(place, reason="bad_metadata", detail=detail))
                continue
            keys = [key for key in _said(row) if key in wanted]
            elsewhere += not keys
            if keys:
                self._rows.put(keys, row)
        self._old = rated_before_2022(self._rows) if before_2022 is None else before_2022
        if elsewhere:
            log.info("%d rows of %s are of pictures in other tars", elsewhere, posts)

    def facts(self, name: str, *, language: str) -> Facts | None:
        """What the table says of a picture, by its path in the tar, else md5 or id in its name."""
        row = next((row for key in _keys(name) if (row := self._rows.get(key)) is not None), None)
        if row is None:
            return None
        site = site_of(row) if self._site == AUTO else self._site
        return read_post(row, site, before_2022=self._old) if site else read_row(row, language=language)

    def _problem(self, row: Mapping[str, Any]) -> str:
        if is_pickled(row):
            return "it holds a pickle, which is never opened"
        if self._site != AUTO and not is_of(row, self._site):
            return f"a post of {site_of(row)}, not of {self._site}"
        return ""


def _keys(name: str) -> list[str]:
    return [f"file {name}", *keys_in(PurePosixPath(name).stem)]


def _said(row: Mapping[str, Any]) -> list[str]:
    """What a row says of the name of its picture."""
    return [f"file {row[key]}" for key in PATHS if isinstance(row.get(key), str)] + keys_of(row)


def _pictures(tar: Path) -> list[str]:
    """Names of the pictures in a tar; what is wrong with its index is told when it is read for them."""
    try:
        return [name for name in read_index(tar).members if _suffix(name) in PICTURE_SUFFIXES]
    except (DataError, OSError):
        return []


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def _object(content: str) -> Mapping[str, Any]:
    """Raises ValueError for what is none, and for one that holds a pickle."""
    value = json.loads(content)
    if not isinstance(value, dict):
        raise ValueError("not an object")
    if is_pickled(value):
        raise ValueError("it holds a pickle, which is never opened")
    return value

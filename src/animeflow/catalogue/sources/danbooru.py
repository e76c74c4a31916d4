"""A Danbooru dump: posts as a JSON array or JSON lines, and a folder with their files. Knows names and md5; decodes nothing.

A post finds its file by a path it names, by md5 or id in the file's name, and, for what is left, by the md5 of the content.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from ...core.errors import DataError
from ..candidate import Candidate
from ..walk import files_in, is_picture, not_a_picture
from .booru import md5_of, read_post

_MD5 = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")
_ID = re.compile(r"(?:danbooru[_-])?(\d{1,10})(?=$|[_\- ])")
_PATHS = ("file_path", "file_name", "path", "image_path")


class DanbooruSource:
    """Posts and files of a Danbooru dump.

    Args:
        posts: JSON array, JSON lines, or one post.
        pictures: folder of the files; default the folder of `posts`.
        name: how its posts are marked.
        site: danbooru, or a site with the same API.
        before_2022: the dump is from when the rating letter `s` meant safe.
    """

    def __init__(
        self,
        posts: Path,
        *,
        pictures: Path | None = None,
        name: str = "danbooru",
        site: str = "danbooru",
        before_2022: bool = False,
    ) -> None:
        self.file, self.name, self.site, self.before_2022 = Path(posts), name, site, before_2022
        self.root = Path(pictures) if pictures is not None else self.file.parent

    def __iter__(self) -> Iterator[Candidate]:
        for number, post in enumerate(self._posts):
            if number in self._found:
                yield Candidate(self._found[number], read_post(post, self.site, before_2022=self.before_2022))
            else:
                detail = (
                    "no file with its md5, id or path"
                    if md5_of(post)
                    else "the post names no file (restricted or deleted)"
                )
                yield Candidate(self.root / f"post {post.get('id', number)}", reason="missing_picture", detail=detail)
        yield from self._left_over()

    def __len__(self) -> int:
        """Candidates: the posts, and the files that belong to none."""
        return len(self._posts) + len(set(self._files) - set(self._found.values()))

    @cached_property
    def _found(self) -> dict[int, Path]:
        """The file of each post, by the post's place in the dump."""
        by_name = self._by_name(self._pictures)
        found: dict[int, Path] = {}
        for number, post in enumerate(self._posts):
            file = self._named(post) or next((by_name[key] for key in _keys(post) if key in by_name), None)
            if file is not None:
                found[number] = file
        taken = set(found.values())
        self._find_by_content(found, [file for file in self._pictures if file not in taken])
        return found

    @cached_property
    def _posts(self) -> list[dict[str, Any]]:
        if not self.file.is_file():
            raise DataError(f"there is no file {self.file}", do="check the path of the dump")
        text = self.file.read_text(encoding="utf-8-sig")
        try:
            try:
                value = json.loads(text)
            except json.JSONDecodeError:
                value = [json.loads(line) for line in text.splitlines() if line.strip()]
        except json.JSONDecodeError as error:
            raise DataError(
                f"{self.file} is neither a JSON array nor JSON lines", why=str(error), do="fetch the dump again"
            ) from error
        value = value.get("posts", [value]) if isinstance(value, dict) else value
        return [post for post in value if isinstance(post, dict)]

    @cached_property
    def _files(self) -> list[Path]:
        return [file for file in files_in(self.root) if file.absolute() != self.file.absolute()]

    @cached_property
    def _pictures(self) -> list[Path]:
        return [file for file in self._files if is_picture(file)]

    def _named(self, post: Mapping[str, Any]) -> Path | None:
        """The file that the post names, if it lies inside the folder."""
        for key in _PATHS:
            value = post.get(key)
            if isinstance(value, str) and value:
                file = (self.root / value).resolve()
                if file.is_relative_to(self.root.resolve()) and file.is_file():
                    return self.root / value
        return None

    def _by_name(self, pictures: list[Path]) -> dict[str, Path]:
        """md5 and id in file names; the first file with a name counts."""
        found: dict[str, Path] = {}
        for file in pictures:
            for digest in _MD5.findall(file.stem.lower()):
                found.setdefault(digest, file)
            if match := _ID.match(file.stem.lower()):
                found.setdefault(f"id {match.group(1)}", file)
        return found

    def _find_by_content(self, found: dict[int, Path], files: list[Path]) -> None:
        wanted = {md5_of(post): number for number, post in enumerate(self._posts) if number not in found}
        wanted.pop(None, None)
        for file in files if wanted else []:
            with open(file, "rb") as handle:
                digest = hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
            if (number := wanted.pop(digest, None)) is not None:
                found[number] = file

    def _left_over(self) -> Iterator[Candidate]:
        taken, pictures = set(self._found.values()), set(self._pictures)
        for file in self._files:
            if file in taken:
                continue
            if file in pictures:
                yield Candidate(file, reason="missing_metadata", detail="no post has its md5, id or path")
            else:
                yield Candidate(file, reason="unknown_format", detail=not_a_picture(file))


def _keys(post: Mapping[str, Any]) -> list[str]:
    digest = md5_of(post)
    return [key for key in (digest, f"id {post['id']}" if "id" in post else None) if key]

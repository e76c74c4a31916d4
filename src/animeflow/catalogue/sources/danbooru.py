"""A booru's dump: posts as JSON, JSON lines or Parquet, and a folder with their files. Knows names and md5; decodes nothing.

A post finds its file by a path it names, by md5 or id in the file's name, and, for what is left, by the md5 of the content.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from ...core.errors import DataError
from ..candidate import Candidate
from ..walk import files_in, is_picture, not_a_picture
from .booru import md5_of, read_post
from .dump import Record, is_pickled, read_files, read_records
from .matching import Names, keys_in, keys_of, named_in, shown
from .ratings import rated_before_2022
from .sites import AUTO, is_of, known_site, site_of


class DanbooruSource:
    """Posts and files of a dump, from Danbooru or another booru.

    Args:
        posts: JSON (an array, one post, or an answer with the posts inside), JSON lines, Parquet, or a folder of such.
        pictures: folder of the files; default the folder of `posts`.
        name: how its posts are marked.
        site: danbooru, gelbooru, yandere, konachan, sankaku, e621, pixiv, ..., or `auto`: each post's own shape tells.
        before_2022: whether the dump is from when Danbooru's rating letter `s` meant safe; null: its dates and letters tell.
    """

    def __init__(
        self,
        posts: Path,
        *,
        pictures: Path | None = None,
        name: str = "danbooru",
        site: str = "danbooru",
        before_2022: bool | None = None,
    ) -> None:
        self.file, self.name, self.site, self._told = Path(posts), name, known_site(site), before_2022
        self.root = Path(pictures) if pictures is not None else self.file if self.file.is_dir() else self.file.parent

    def __iter__(self) -> Iterator[Candidate]:
        for number, record in enumerate(self._records):
            yield self._candidate(number, record)
        yield from self._left_over()

    def __len__(self) -> int:
        """Candidates: the posts, and the files that belong to none."""
        return len(self._records) + len(set(self._files) - set(self._found.values()))

    @cached_property
    def before_2022(self) -> bool:
        return rated_before_2022(self._posts.values()) if self._told is None else self._told

    def _candidate(self, number: int, record: Record) -> Candidate:
        post = record.value
        if post is None:
            return Candidate(self.root / record.place, reason="bad_metadata", detail=record.problem)
        place = self.root / f"post {shown(post.get('id', number))}"
        if number not in self._posts:
            detail = f"{record.place}: {self._problem(post)}"
            return Candidate(self.root / record.place, reason="bad_metadata", detail=detail)
        if number in self._found:
            site = self._site(post) or self.site
            return Candidate(self._found[number], read_post(post, site, before_2022=self.before_2022))
        named = md5_of(post) is not None
        detail = "no file with its md5, id or path" if named else "the post names no file (restricted or deleted)"
        return Candidate(place, reason="missing_picture", detail=detail)

    def _site(self, post: Mapping[str, Any]) -> str | None:
        return site_of(post) if self.site == AUTO else self.site

    def _problem(self, post: Mapping[str, Any]) -> str | None:
        """Why an object is no post of this dump."""
        if is_pickled(post):
            return "it holds a pickle, which is never opened"
        if not any(str(key).startswith("tag") for key in post):
            return "no post: it has no tags"
        if self.site == AUTO:
            return None if site_of(post) else "no known site's post"
        return None if is_of(post, self.site) else f"a post of {site_of(post)}, not of {self.site}"

    @cached_property
    def _records(self) -> list[Record]:
        return list(read_records(self.file))

    @cached_property
    def _posts(self) -> dict[int, Mapping[str, Any]]:
        """The good ones, by place."""
        posts = {
            number: record.value
            for number, record in enumerate(self._records)
            if record.value is not None and self._problem(record.value) is None
        }
        if self._records and not posts:
            first = self._records[0]
            why = first.problem or self._problem(first.value or {})
            raise DataError(
                f"{self.file} holds no post of {'a known site' if self.site == AUTO else self.site}",
                why=f"{first.place}: {why}; it has {', '.join(list(first.value or {})[:8]) or 'nothing'}",
                do="check the file, or name the site: catalogue=booru_api catalogue.site=gelbooru",
            )
        return posts

    @cached_property
    def _found(self) -> dict[int, Path]:
        """The file of each post, by the post's place in the dump."""
        names = Names(self._pictures)
        found = {
            number: file
            for number, post in self._posts.items()
            if (file := named_in(post, self.root) or names.find(post)) is not None
        }
        taken = set(found.values())
        self._find_by_content(found, [file for file in self._pictures if file not in taken])
        return found

    @cached_property
    def _files(self) -> list[Path]:
        dump = self.file.absolute()
        dumps = set(read_files(dump)) if dump.is_dir() else {dump}
        return [file for file in files_in(self.root) if file.absolute() not in dumps]

    @cached_property
    def _pictures(self) -> list[Path]:
        return [file for file in self._files if is_picture(file)]

    def _work_of(self, file: Path) -> Mapping[str, Any] | None:
        return next((self._works[key] for key in keys_in(file.stem) if key in self._works), None)

    @cached_property
    def _works(self) -> dict[str, Mapping[str, Any]]:
        """pixiv's posts by id: all pages of a work are pictures of one post, `77_p0.png`, `77_p1.png`."""
        return {
            keys_of(post)[-1]: post for post in self._posts.values() if self._site(post) == "pixiv" and keys_of(post)
        }

    def _find_by_content(self, found: dict[int, Path], files: list[Path]) -> None:
        wanted = {md5_of(post): number for number, post in self._posts.items() if number not in found}
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
            if file in pictures and (post := self._work_of(file)) is not None:
                yield Candidate(file, read_post(post, "pixiv"))
            elif file in pictures:
                yield Candidate(file, reason="missing_metadata", detail="no post has its md5, id or path")
            else:
                yield Candidate(file, reason="unknown_format", detail=not_a_picture(file))


def booru_api(
    posts: Path,
    *,
    pictures: Path | None = None,
    name: str = "booru",
    site: str = AUTO,
    before_2022: bool | None = None,
) -> DanbooruSource:
    """Answers of any site's API as they were saved; which site it was each post's own shape tells, unless `site` does."""
    return DanbooruSource(posts, pictures=pictures, name=name, site=site, before_2022=before_2022)

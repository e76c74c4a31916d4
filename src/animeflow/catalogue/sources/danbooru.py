"""A booru's dump: posts as JSON, JSON lines or Parquet, and a folder with their files. Knows names and md5; decodes nothing.

A post finds its file by a path it names, by md5 or id in the file's name, and, for what is left, by the md5 of the content.
The dump is read twice, once to find the files, and never held.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from ...core.errors import DataError
from ..candidate import Candidate
from ..files import Files
from ..walk import files_in, is_picture, not_a_picture
from .booru import md5_of, read_post
from .dump import Record, is_pickled, read_files, read_records
from .matching import Names, keys_in, keys_of, named_in, shown
from .ratings import rated_before_2022
from .sites import AUTO, is_of, known_site, site_of

NONE, ELSEWHERE = -1, -2


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
        for number, record in enumerate(read_records(self.file)):
            yield self._candidate(number, record)
        yield from self._left_over()

    def __len__(self) -> int:
        """Candidates: the posts, and the files that belong to none."""
        return len(self._found.file_of) + self._found.taken.count(0)

    @cached_property
    def before_2022(self) -> bool:
        return rated_before_2022(post for _, post in self._posts()) if self._told is None else self._told

    def _candidate(self, number: int, record: Record) -> Candidate:
        post = record.value
        if post is None:
            return Candidate(self.root / record.place, reason="bad_metadata", detail=record.problem)
        place = self.root / f"post {shown(post.get('id', number))}"
        if problem := self._problem(post):
            return Candidate(self.root / record.place, reason="bad_metadata", detail=f"{record.place}: {problem}")
        if (file := self._found.get(number, self._files)) is not None:
            site = self._site(post) or self.site
            return Candidate(file, read_post(post, site, before_2022=self.before_2022), md5=md5_of(post))
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

    def _posts(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """The good ones, by place. The dump is read anew each time: it may be larger than the memory."""
        for number, record in enumerate(read_records(self.file)):
            if record.value is not None and self._problem(record.value) is None:
                yield number, record.value

    @cached_property
    def _found(self) -> _Found:
        """The file of each post, by the post's place in the dump."""
        names, found = Names(self._files, self._pictures()), _Found(len(self._files))
        first: Record | None = None
        good = wanted = False
        for number, record in enumerate(read_records(self.file)):
            first = first or record
            found.file_of.append(NONE)
            post = record.value
            if post is None or self._problem(post) is not None:
                continue
            good = True
            if (file := named_in(post, self.root)) is not None:
                found.take_path(number, file, self._files)
            elif (place := names.find(post)) is not None:
                found.take(number, place)
            wanted = wanted or (found.file_of[number] == NONE and md5_of(post) is not None)
        if first is not None and not good:
            self._refuse(first)
        if wanted:
            self._find_by_content(found)
        return found

    def _refuse(self, first: Record) -> None:
        why = first.problem or self._problem(first.value or {})
        raise DataError(
            f"{self.file} holds no post of {'a known site' if self.site == AUTO else self.site}",
            why=f"{first.place}: {why}; it has {', '.join(list(first.value or {})[:8]) or 'nothing'}",
            do="check the file, or name the site: catalogue=booru_api catalogue.site=gelbooru",
        )

    @cached_property
    def _files(self) -> Files:
        dump = self.file.absolute()
        dumps = set(read_files(dump)) if dump.is_dir() else {dump}
        return Files(self.root, (file for file in files_in(self.root) if file.absolute() not in dumps))

    def _pictures(self) -> Iterator[int]:
        return (place for place, file in enumerate(self._files) if is_picture(file))

    @cached_property
    def _works(self) -> dict[str, Mapping[str, Any]]:
        """pixiv's posts by id, of the files that are left: all pages of a work are of one post, `77_p0.png`, `77_p1.png`."""
        left = {key for place in self._left() for key in keys_in(self._files[place].stem)}
        posts = (post for _, post in self._posts() if self._site(post) == "pixiv") if left else ()
        return {keys[-1]: post for post in posts if (keys := keys_of(post)) and keys[-1] in left}

    def _left(self) -> Iterator[int]:
        """Pictures that no post has yet."""
        return (place for place in self._pictures() if not self._found.taken[place])

    def _find_by_content(self, found: _Found) -> None:
        files: dict[str, int] = {}
        for place in self._pictures():
            if not found.taken[place]:
                with open(self._files[place], "rb") as handle:
                    digest = hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
                files.setdefault(digest, place)
        if not files:
            return
        wanted: dict[str, int] = {}
        for number, post in self._posts():
            named = md5_of(post)
            if found.place_of(number) == NONE and named is not None and named in files:
                wanted[named] = number
        for digest, number in wanted.items():
            found.take(number, files[digest])

    def _left_over(self) -> Iterator[Candidate]:
        for place, file in enumerate(self._files):
            if self._found.taken[place]:
                continue
            if not is_picture(file):
                yield Candidate(file, reason="unknown_format", detail=not_a_picture(file))
                continue
            post = next((self._works[key] for key in keys_in(file.stem) if key in self._works), None)
            if post is not None:
                yield Candidate(file, read_post(post, "pixiv"))
            else:
                yield Candidate(file, reason="missing_metadata", detail="no post has its md5, id or path")


class _Found:
    """Which file each post has, in 8 bytes a post.

    Attributes:
        file_of: of every record its file's place among the files, NONE, or ELSEWHERE: a file that is not among them.
        taken: of every file 1 where a post has it.
    """

    def __init__(self, files: int) -> None:
        self.file_of, self.taken = array("q"), bytearray(files)
        self._elsewhere: dict[int, Path] = {}

    def place_of(self, number: int) -> int | None:
        """None for a record that the dump has since it was read for the files: somebody still writes it."""
        return self.file_of[number] if number < len(self.file_of) else None

    def get(self, number: int, files: Files) -> Path | None:
        place = self.place_of(number)
        return self._elsewhere[number] if place == ELSEWHERE else None if place in (NONE, None) else files[place]

    def take(self, number: int, place: int) -> None:
        self.file_of[number], self.taken[place] = place, 1

    def take_path(self, number: int, file: Path, files: Files) -> None:
        place = files.find(file)
        if place is not None:
            self.take(number, place)
        else:
            self.file_of[number], self._elsewhere[number] = ELSEWHERE, file


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

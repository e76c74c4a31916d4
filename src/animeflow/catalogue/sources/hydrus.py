"""Folders that Hydrus exported: PICTURE.ext with PICTURE.ext.txt (one `namespace:tag` a line) or PICTURE.ext.json beside it.

What a sidecar holds the user chose in Hydrus; read here are tags, URLs and a rating among the tags. Decodes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...text.tags import split_tags
from ..candidate import Candidate, Facts
from ..files import Files
from ..walk import PICTURE_SUFFIXES, files_in, is_picture, not_a_picture
from .dump import is_pickled
from .fields import iso_utc, plain
from .sidecar import read_tags, tell_origin
from .sites import post_at

SIDECARS = (".json", ".txt")
# Namespaces of Hydrus's own about a file and where it came from, not about what it shows.
ABOUT_THE_FILE = frozenset(
    (
        *("title", "page", "volume", "chapter", "filename", "directory", "source", "site", "booru", "uploader"),
        *(
            "id",
            "post id",
            "pixiv id",
            "pixiv work",
            "danbooru id",
            "gelbooru id",
            "md5",
            "hash",
            "url",
            "import",
            "date",
        ),
    )
)
_TAGS, _URLS = ("tags", "display tags", "storage tags"), ("urls", "url", "known urls", "source urls")


class HydrusSource:
    """Pictures and Hydrus's sidecars below `root`; a JSON goes before a text.

    Args:
        root: the folder.
        name: how its posts are marked.
    """

    def __init__(self, root: Path, *, name: str = "hydrus") -> None:
        self.root, self.name = Path(root), name

    def __iter__(self) -> Iterator[Candidate]:
        files = present = Files(self.root, files_in(self.root))
        for file in files:
            if file.suffix.lower() in SIDECARS and file.with_suffix("").suffix.lower() in PICTURE_SUFFIXES:
                other = file.with_suffix(".json" if file.suffix.lower() == ".txt" else ".txt")
                if present.spelled(file.with_suffix("")) is None and (
                    file.suffix.lower() == ".json" or present.spelled(other) is None
                ):
                    detail = f"only {file.name} is here"
                    yield Candidate(file.with_suffix(""), reason="missing_picture", detail=detail)
            elif is_picture(file):
                beside = (present.spelled(file.with_name(file.name + suffix)) for suffix in SIDECARS)
                yield self._candidate(file, [sidecar for sidecar in beside if sidecar is not None])
            else:
                yield Candidate(file, reason="unknown_format", detail=not_a_picture(file))

    def _candidate(self, picture: Path, sidecars: list[Path]) -> Candidate:
        if not sidecars:
            return Candidate(picture, reason="missing_metadata", detail=f"no {picture.name}.txt or .json beside it")
        try:
            text = sidecars[0].read_text(encoding="utf-8-sig")
            found = _read_json(text) if sidecars[0].suffix.lower() == ".json" else (text.split("\n"), [], None)
        except (ValueError, OSError, RecursionError) as error:
            return Candidate(picture, reason="bad_sidecar", detail=f"{sidecars[0].name}: {str(error)[:120]}")
        return Candidate(picture, facts_of(*found))


def facts_of(lines: list[str], urls: list[str], date: Any = None) -> Facts:
    """Facts of Hydrus's tags, one per line, and of the addresses it knows."""
    facts = Facts(created_at=iso_utc(date))
    surfaces = []
    wanted = []
    for line in lines:
        space, colon, _ = line.strip().partition(":")
        if colon and space.strip().lower() in ABOUT_THE_FILE:
            surfaces.append(line)
        else:
            wanted.append(line)
    read_tags(split_tags(wanted), facts)
    facts.surfaces += tuple(split_tags(surfaces))
    pages = [(address, post) for address in urls if (post := post_at(address))]
    if pages:
        facts.url, (facts.site, facts.source_id) = pages[0]
    elif urls:
        facts.url = urls[0]
    tell_origin(facts)
    return facts


def _read_json(text: str) -> tuple[list[str], list[str], Any]:
    """Tags, URLs and a date of an object, whatever else it has. Raises ValueError where there are no tags."""
    record = json.loads(text)
    if not isinstance(record, dict):
        raise ValueError("not an object")
    if is_pickled(record):
        raise ValueError("it holds a pickle, which is never opened")
    tags = next((_strings(record[key]) for key in _TAGS if key in record), None)
    if tags is None:
        raise ValueError(f"no list of tags; it has {', '.join(map(str, list(record)[:8])) or 'nothing'}")
    urls = next((_strings(record[key]) for key in _URLS if key in record), [])
    return tags, urls, record.get("date") or record.get("time")


def _strings(value: Any) -> list[str]:
    """A list of strings; of an object of lists (tags by service) all of them. Raises ValueError for anything else."""
    if isinstance(value, dict):
        return [each for part in value.values() for each in _strings(part)]
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
        raise ValueError("tags and urls have to be lists of text")
    return [found for each in values if (found := plain(each))]

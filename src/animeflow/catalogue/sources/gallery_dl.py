"""Folders that gallery-dl filled: PICTURE.ext and PICTURE.ext.json, or one data.jsonl, from any of its sites. Decodes nothing.

Metadata without a picture and pictures without metadata are reported. `.txt` of `--write-tags` repeats what the JSON says and is
passed over beside one; alone it says the tags. Hidden files, waifuc's pickled sidecars among them, are never opened.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...text.tags import split_tags
from ..candidate import Candidate, Facts
from ..files import Files
from ..shelf import Shelf
from ..walk import PICTURE_SUFFIXES, files_in, is_picture, not_a_picture
from .booru import md5_of, read_post
from .dump import LINES, is_pickled, read_records
from .fields import page, plain
from .matching import id_key, keys_in, shown
from .sidecar import read_tags, tell_origin
from .sites import FAMILIES

_NAMED = re.compile(r"([a-z0-9]+)_(\w+?)(?:_.*)?")


class GalleryDlSource:
    """Pictures with gallery-dl's metadata, below `root`. The key `category` of each object says which site it is from.

    Args:
        root: the folder.
        name: how its posts are marked.
        before_2022: the folder was filled when Danbooru's rating letter `s` meant safe.
    """

    def __init__(self, root: Path, *, name: str = "gallery-dl", before_2022: bool = False) -> None:
        self.root, self.name, self.before_2022 = Path(root), name, before_2022

    def __iter__(self) -> Iterator[Candidate]:
        files = present = Files(self.root, files_in(self.root))
        told = Shelf()
        yield from self._lines(files, told)
        for file in files:
            if _is_lines(file):
                continue
            if _describes(file):
                yield from self._without_picture(file, present)
            elif (record := told.get(str(file))) is not None:
                yield Candidate(file, self._facts(record["value"]), md5=md5_of(record["value"]))
            elif is_picture(file):
                yield self._candidate(file, present)
            else:
                yield Candidate(file, reason="unknown_format", detail=not_a_picture(file))

    def _without_picture(self, file: Path, present: Files) -> Iterator[Candidate]:
        picture = file.with_suffix("")
        described = present.spelled(_beside(picture, ".json")) is not None
        if present.spelled(picture) is None and (file.suffix.lower() == ".json" or not described):
            yield Candidate(picture, reason="missing_picture", detail=f"only {file.name} is here")

    def _candidate(self, picture: Path, present: Files) -> Candidate:
        sidecar, tags = (present.spelled(_beside(picture, suffix)) for suffix in (".json", ".txt"))
        chosen = sidecar or tags
        if chosen is None:
            return Candidate(picture, reason="missing_metadata", detail=f"no {picture.name}.json beside it")
        try:
            record = read_sidecar(chosen) if chosen is sidecar else None
            facts = read_tag_file(chosen) if record is None else self._facts(record)
        except (ValueError, OSError, RecursionError) as error:
            return Candidate(picture, reason="bad_sidecar", detail=f"{chosen.name}: {str(error)[:120]}")
        return Candidate(picture, facts, md5=None if record is None else md5_of(record))

    def _facts(self, record: Mapping[str, Any]) -> Facts:
        return read_post(record, record["category"], before_2022=self.before_2022)

    def _lines(self, files: Files, told: Shelf) -> Iterator[Candidate]:
        """Put the line of each picture that has no JSON of its own on the shelf; the lines that are of none are refused. The last
        line of a picture counts: gallery-dl adds lines to a file that is there."""
        lines = [file for file in files if _is_lines(file)]
        alone = [
            file for file in (files if lines else ())
            if not _describes(file) and not _is_lines(file) and is_picture(file) and files.spelled(_beside(file, ".json")) is None
        ]  # fmt: skip
        for file in lines:
            names = _names(picture for picture in alone if picture.is_relative_to(file.parent))
            for record in read_records(file):
                place, problem = file.with_name(record.place), record.problem
                if record.value is not None:
                    problem = _problem(record.value) or ""
                if record.value is None or problem:
                    yield Candidate(place, reason="bad_metadata", detail=problem)
                    continue
                picture = next((names[key] for key in _keys(record.value) if key in names), None)
                if picture is None:
                    detail = f"no picture of {record.value['category']} {shown(record.value.get('id'))}"
                    yield Candidate(place, reason="missing_picture", detail=detail)
                    continue
                if (before := told.get(str(picture))) is not None:
                    detail = f"{record.place} is of the same picture"
                    yield Candidate(file.with_name(before["place"]), reason="named_again", detail=detail)
                told.put([str(picture)], {"place": record.place, "value": record.value}, replace=True)


def read_sidecar(file: Path) -> dict[str, Any]:
    """A metadata object with a `category`. Raises ValueError for anything else; values are data and never unpickled."""
    record = json.loads(file.read_text(encoding="utf-8-sig"))
    if problem := _problem(record):
        raise ValueError(problem)
    return dict(record)


def read_tag_file(file: Path) -> Facts:
    """Facts of `--write-tags`: one tag a line. Site and id are those of the name, `danbooru_9000028_<md5>.png.txt`."""
    facts = Facts()
    read_tags(split_tags(file.read_text(encoding="utf-8-sig").split("\n")), facts)
    named = _NAMED.fullmatch(file.with_suffix("").stem)
    if named and named.group(1) in FAMILIES:
        facts.site, facts.source_id = named.groups()
        facts.url = page(named.group(1), facts.source_id, {})
    tell_origin(facts)
    facts.unsorted = not any(names for category, names in facts.tags.items() if category != "general")
    return facts


def _problem(record: Any) -> str | None:
    if not isinstance(record, dict) or not isinstance(record.get("category"), str):
        return "not an object with the site under `category`"
    return "it holds a pickle, which is never opened" if is_pickled(record) else None


def _names(pictures: Iterator[Path]) -> dict[str, Path]:
    """Pictures by all that their names say; the first counts."""
    found: dict[str, Path] = {}
    for picture in pictures:
        for key in (picture.stem.lower(), *keys_in(picture.stem)):
            found.setdefault(key, picture)
    return found


def _keys(record: Mapping[str, Any]) -> list[str]:
    """What gallery-dl calls the picture of a record, as its sites' default names and the common ones are."""
    site, identity, digest = record["category"], plain(record.get("id")), md5_of(record)
    stem, number = plain(record.get("filename")), plain(record.get("num"))
    paged = [f"{identity}_p{number}"] if identity and number is not None else []
    stems = [
        *paged,
        f"{site}_{identity}_{digest}",
        f"{site}_{identity}_{stem}",
        f"{site}_{identity}",
        stem,
        digest,
        identity,
    ]
    keys = [each.lower() for each in stems if each]
    if not paged and (key := id_key(identity)):  # of a work with pages its id alone says too little
        keys.append(key)
    return keys


def _is_lines(file: Path) -> bool:
    return file.suffix.lower() in LINES


def _beside(picture: Path, suffix: str) -> Path:
    return picture.with_name(picture.name + suffix)


def _describes(file: Path) -> bool:
    """Whether a sidecar's name is a picture's name with one suffix more."""
    return file.suffix.lower() in (".json", ".txt") and file.with_suffix("").suffix.lower() in PICTURE_SUFFIXES

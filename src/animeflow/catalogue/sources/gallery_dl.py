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
        files = list(files_in(self.root))
        present = set(files)
        pictures = [file for file in files if not _describes(file) and not _is_lines(file) and is_picture(file)]
        told, refused = self._lines(files, [file for file in pictures if _beside(file, ".json") not in present])
        yield from refused
        for file in files:
            if _is_lines(file):
                continue
            if _describes(file):
                yield from self._without_picture(file, present)
            elif file in told:
                yield Candidate(file, self._facts(told[file]))
            elif is_picture(file):
                yield self._candidate(file, present)
            else:
                yield Candidate(file, reason="unknown_format", detail=not_a_picture(file))

    def _without_picture(self, file: Path, present: set[Path]) -> Iterator[Candidate]:
        picture = file.with_suffix("")
        if picture not in present and (file.suffix.lower() == ".json" or _beside(picture, ".json") not in present):
            yield Candidate(picture, reason="missing_picture", detail=f"only {file.name} is here")

    def _candidate(self, picture: Path, present: set[Path]) -> Candidate:
        sidecar, tags = _beside(picture, ".json"), _beside(picture, ".txt")
        if sidecar not in present and tags not in present:
            return Candidate(picture, reason="missing_metadata", detail=f"no {sidecar.name} beside it")
        chosen = sidecar if sidecar in present else tags
        try:
            facts = self._facts(read_sidecar(sidecar)) if chosen is sidecar else read_tag_file(tags)
        except (ValueError, OSError, RecursionError) as error:
            return Candidate(picture, reason="bad_sidecar", detail=f"{chosen.name}: {str(error)[:120]}")
        return Candidate(picture, facts)

    def _facts(self, record: Mapping[str, Any]) -> Facts:
        return read_post(record, record["category"], before_2022=self.before_2022)

    def _lines(self, files: list[Path], pictures: list[Path]) -> tuple[dict[Path, Mapping[str, Any]], list[Candidate]]:
        """The line of each picture that has no JSON of its own, and the lines that are of none. The last line of a picture counts:
        gallery-dl adds lines to a file that is there."""
        found: dict[Path, tuple[str, Mapping[str, Any]]] = {}
        refused: list[Candidate] = []
        for file in (file for file in files if _is_lines(file)):
            names = _names(picture for picture in pictures if picture.is_relative_to(file.parent))
            for record in read_records(file):
                place, problem = file.with_name(record.place), record.problem
                if record.value is not None:
                    problem = _problem(record.value) or ""
                if record.value is None or problem:
                    refused.append(Candidate(place, reason="bad_metadata", detail=problem))
                    continue
                picture = next((names[key] for key in _keys(record.value) if key in names), None)
                if picture is None:
                    detail = f"no picture of {record.value['category']} {shown(record.value.get('id'))}"
                    refused.append(Candidate(place, reason="missing_picture", detail=detail))
                    continue
                if picture in found:
                    earlier = file.with_name(found[picture][0])
                    refused.append(
                        Candidate(earlier, reason="named_again", detail=f"{record.place} is of the same picture")
                    )
                found[picture] = (record.place, record.value)
        return {picture: value for picture, (_, value) in found.items()}, refused


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

"""kohya's metadata files: meta_cap.json, meta_lat.json and meta.jsonl. Knows their keys and how they name pictures.

A key is a picture's stem, or its path with `--full_path`; `image_path` of a line is a path or a name. `train_resolution` and
`image_size` are sizes of another program's buckets and are not read.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

from ...core.errors import DataError
from ..candidate import Candidate
from .dump import LINES, read_records, text_of


@dataclass(frozen=True)
class Entry:
    """What a file says of one picture. With a `problem` it says nothing that can be used."""

    name: str
    row: Mapping[str, Any]
    problem: str = ""


def read_metadata(file: Path) -> list[Entry]:
    """Entries in the order of the file. Raises DataError for a file that is none of kohya's."""
    if file.suffix.lower() in LINES:
        return [_line(record.place, record.value, record.problem) for record in read_records(file)]
    if not file.is_file():
        raise DataError(f"there is no file {file}", do="check the path of the metadata")
    try:
        value = json.loads(text_of(file))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} is not JSON", why=str(error)[:120], do="make it again with kohya's scripts") from error
    if not isinstance(value, dict) or not all(isinstance(entry, dict) for entry in list(value.values())[:1]):
        raise DataError(
            f"{file} is no metadata of kohya's",
            why="it is not an object that has an object for every picture",
            do="give meta_cap.json, meta_lat.json or meta.jsonl",
        )
    return [
        Entry(name, entry if isinstance(entry, dict) else {}, "" if isinstance(entry, dict) else "no object")
        for name, entry in value.items()
    ]


def match(
    entries: Iterable[Entry], pictures: Sequence[Path], *, root: Path, metadata: Path
) -> tuple[dict[Path, Entry], list[Candidate]]:
    """The entry of each picture, and one refused candidate for every entry that has none."""
    ways = {picture: _names(picture, root) for picture in pictures}
    often = Counter(name for names in ways.values() for name in names)
    owners = {name: picture for picture, names in ways.items() for name in names if often[name] == 1}
    found: dict[Path, Entry] = {}
    lost: list[Candidate] = []
    for number, entry in enumerate(entries):
        name = _plain(entry.name)
        picture = owners.get(name) or owners.get(_plain(str(metadata.parent.absolute() / name)))
        if picture is None and (path := PureWindowsPath(name)).root:  # the folder was elsewhere when the file was made
            picture = owners.get(path.name) or owners.get(path.stem)
        reason, detail = "bad_metadata", entry.problem
        if not entry.problem:
            reason, detail = "missing_picture", f"no picture is called {entry.name}"
            if often[name] > 1:
                reason, detail = "ambiguous_name", f"{often[name]} pictures are called {entry.name}"
            elif picture in found:
                reason, detail = "named_twice", f"another entry of {metadata.name} is of the same picture"
            elif picture is not None:
                found[picture] = entry
                continue
        lost.append(Candidate(metadata.with_name(f"{metadata.name} entry {number}"), reason=reason, detail=detail))
    return found, lost


def _line(place: str, value: Mapping[str, Any] | None, problem: str) -> Entry:
    if value is None:
        return Entry(place, {}, problem)
    name = value.get("image_path")
    if not isinstance(name, str) or not name:
        return Entry(place, {}, f"{place} names no image_path")
    return Entry(name, {key: each for key, each in value.items() if key != "image_path"})


def _names(picture: Path, root: Path) -> list[str]:
    """All that an entry may call a picture."""
    whole, inside = picture.absolute(), picture.relative_to(root)
    names = [each for path in (whole, inside) for each in (path, path.with_suffix(""))]
    return list(dict.fromkeys([_plain(str(name)) for name in names] + [picture.name, picture.stem]))


def _plain(name: str) -> str:
    """Slashes as they are elsewhere: metadata made on Windows is read on Linux too."""
    return PureWindowsPath(name).as_posix()

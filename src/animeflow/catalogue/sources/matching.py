"""Which file belongs to which record: by a path that it names, by md5 or id in the file's name. Knows names; opens no file."""

from __future__ import annotations

import os
import re
from array import array
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from ..files import Files
from ..index import Sorted, number_of
from .booru import md5_of
from .fields import plain
from .sites import FAMILIES

PATHS = ("file_path", "file_name", "path", "image_path")
_MD5 = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")
MAX_DIGITS = 20
_UNSAFE = re.compile(r"[^\w-]")
# The whole name, an id and what sites and downloaders write behind one (a page, an md5, "sample"), or a known site, an id and
# anything: `2023_x` is a name and no id.
_BEHIND = r"_p\d+(?:[_-].*)?|[_\- ](?:\d{1,4}|sample|preview|small|large|full|orig|original|resized|\d+x\d+|\d+px|[0-9a-f]{32}.*)"
_ID = re.compile(
    rf"(?:post[_-])?(\d{{1,10}})(?:{_BEHIND})?|(?:{'|'.join(sorted(FAMILIES))})[_\- ](\d{{1,10}})(?:[_\- ].*)?"
)


class Names:
    """Files by what their names say; of two that say the same, the first counts."""

    def __init__(self, files: Files, places: Iterable[int]) -> None:
        self._files = files
        numbers, owners = array("Q"), array("Q")
        for place in places:
            for key in keys_in(files[place].stem):
                numbers.append(number_of(key))
                owners.append(place)
        self._by_key, self._owners = Sorted(np.frombuffer(numbers, np.uint64)), owners

    def find(self, record: Mapping[str, Any]) -> int | None:
        """The place of the file whose name has the record's md5, else its id."""
        for key in keys_of(record):
            for place in (self._owners[at] for at in self._by_key.find(number_of(key))):
                if key in keys_in(self._files[place].stem):
                    return place
        return None


def keys_in(stem: str) -> list[str]:
    """md5s and the id in a file's name: `gelbooru_9000028_<md5>`, `9000028`, `9000028_p0`; none of `2023_x`."""
    name = stem.lower()
    found = _ID.fullmatch(name)
    return _MD5.findall(name) + ([f"id {int(found.group(1) or found.group(2))}"] if found else [])


def keys_of(record: Mapping[str, Any]) -> list[str]:
    """md5 and id of a record, best first."""
    digest, identity = md5_of(record), plain(record.get("id"))
    return [key for key in (digest, id_key(identity)) if key]


def id_key(identity: str | None) -> str | None:
    """How `keys_in` writes the id in a file's name; None for what is no number, or longer than any."""
    short = identity and len(identity) <= MAX_DIGITS and identity.isdecimal()
    return f"id {int(identity)}" if identity and short else None


def named_in(record: Mapping[str, Any], root: Path) -> Path | None:
    """The file that the record names, if it lies below `root`."""
    for key in PATHS:
        value = record.get(key)
        if isinstance(value, str) and (file := below(root, value)) and os.path.isfile(file):
            return file
    return None


def shown(identity: Any) -> str:
    """An id as part of a path that only a list of refusals has."""
    return _UNSAFE.sub("_", str(identity))[:80]


def below(root: Path, name: str) -> Path | None:
    """`root / name`, where that lies below `root` on every system; else None."""
    posix = PurePosixPath(name)
    outside = posix.is_absolute() or PureWindowsPath(name).drive or ".." in PureWindowsPath(name).parts
    if not name or outside or "\0" in name or not posix.parts:
        return None
    file = root / name
    try:
        return file if file.resolve().is_relative_to(root.resolve()) else None
    except (OSError, ValueError):  # halves of characters, a loop of links
        return None

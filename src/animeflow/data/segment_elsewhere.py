"""The index of a segment that lies elsewhere: read from the small file beside it. Knows places; reads no entry."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

from ..core.errors import DataError
from .place import OutOfReach, Place
from .segment import ENTRY, Segment, index_path, read_index


def fetch_segment(place: Place, name: str) -> Segment:
    """What `open_segment` gives of a local file. `path` is the name alone.

    Raises:
        DataError: the index is missing or broken, or the file has not the length that it had when it was indexed.
    """
    beside = index_path(Path(name)).name

    def check(data: bytes) -> None:
        try:
            found = read_index(io.BytesIO(data))  # reads, and so checks, all
            if found["entries"].dtype != ENTRY:
                raise ValueError("its entries are of another form")
            json.loads(found["layouts"].tobytes())
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(
                f"the index of a file of the cache cannot be read: {error}", where=place.where(beside),
                do="open the cache once where it was made, which writes its indices again, and copy them",
            ) from error  # fmt: skip

    try:
        data = place.read_bytes(beside, check=check)
    except OutOfReach:
        raise
    except DataError as error:
        raise DataError(
            error.what, where=error.where, why="elsewhere, entries are found by the .index.npz beside each file",
            do=error.do or "copy the .index.npz files with the others",
        ) from error  # fmt: skip
    saved = read_index(io.BytesIO(data))
    owner, size, text, entries = str(saved["name"]), int(saved["bytes"]), saved["layouts"].tobytes(), saved["entries"]
    there = place.size(name)
    if owner != name or (there is not None and there != size):
        raise DataError(
            f"a file of the cache is broken: its index speaks of {owner} with {size} bytes, {there} are there",
            where=place.where(name), do="copy it again from where it was made",
        )  # fmt: skip
    layouts = json.loads(text)
    return Segment(Path(name), entries, tuple(tuple((n, d, tuple(s)) for n, d, s in rows) for rows in layouts))

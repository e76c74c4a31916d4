"""Pictures that runs of ours drew: a set that takes them in teaches a model its own faults. Knows runs' folders by name only.

A picture in a folder `samples` is ours if it bears our recipe: a person's folder may be called so too. What a run drew is then
known by its bytes, and by its pixels where a copy lost its text or was packed anew.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from ..core.files import write_text
from ..image.fingerprint import VERSION, Fingerprint
from ..image.picture import Limits
from .check import check

log = logging.getLogger(__name__)
INDEX = ".own_samples.jsonl"  # hidden: the folder may be among somebody's pictures
HEAD = 1 << 16  # bytes, in which a recipe begins: it stands before the pixels
RECIPE = b"tEXtanimeflow\0"


class OwnSamples:
    """The pictures below `samples` folders of runs.

    Args:
        folders: of runs, at any depth; those that are not there hold nothing. Each gets an index, so that a picture is read once.
    """

    def __init__(self, folders: Iterable[Path]) -> None:
        self.folders = [Path(folder) for folder in folders]

    def find(self, sha256: str, packed: bytes) -> str | None:
        """The picture of ours with these bytes, or with these pixels (a packed Fingerprint), else None."""
        found = self._known.get(sha256)
        if found is None and packed:
            found = self._known.get(Fingerprint.unpack(packed).pixels.hex())
        return found

    @cached_property
    def _known(self) -> dict[str, str]:
        known: dict[str, str] = {}
        for folder in filter(Path.is_dir, self.folders):
            for path, sha256, pixels in self._read(folder):
                known |= {sha256: path} | ({pixels: path} if pixels else {})
        return known

    def _read(self, folder: Path) -> list[tuple[str, str, str]]:
        """(path, sha256, hash of the pixels) of every picture, out of the index where the file did not change."""
        index, rows, changed = folder / INDEX, [], False
        before = _index(index)
        for file in sorted(set(folder.rglob("samples/**/*.png"))):
            try:
                stat = file.stat()
            except OSError:  # gone since, or a link to nothing
                continue
            path, key = str(file), [file.relative_to(folder).as_posix(), stat.st_size, stat.st_mtime_ns, VERSION]
            if (hashes := before.get(json.dumps(key))) is None:
                hashes, changed = _hashes(file), True
            rows.append((path, key, hashes))
        if changed or len(rows) != len(before):
            lines = (json.dumps([key, hashes]) for _, key, hashes in rows)
            try:
                write_text(index, "".join(f"{line}\n" for line in lines))
            except OSError as error:  # another person's runs: they are read again next time
                log.warning("no index of %s could be kept: %s", folder, error.strerror)
        return [(path, sha256, pixels) for path, _, (sha256, pixels) in rows if sha256]


def _hashes(file: Path) -> list[str]:
    """sha256 of the bytes and hash of the pixels; empty where they are not ours, or not known."""
    try:
        with open(file, "rb") as opened:
            ours = RECIPE in opened.read(HEAD)
    except OSError:
        ours = False
    if not ours:
        return ["", ""]
    checked = check(str(file), Limits())
    return [checked.sha256, "" if checked.reason else Fingerprint.unpack(checked.print).pixels.hex()]


def _index(file: Path) -> dict[str, list[str]]:
    """What an earlier run read; one that cannot be read is an empty one."""
    try:
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        return {json.dumps(key): hashes for key, hashes in rows}
    except (OSError, ValueError, TypeError):
        return {}

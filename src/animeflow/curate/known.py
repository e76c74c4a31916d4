"""The fingerprints of a catalogue: those that lie beside it, and those that are missing made now. Knows files; compares nothing."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from ..catalogue import beside
from ..catalogue.reading import read_file
from ..image.alignment import one_thread
from ..image.decode import decode
from ..image.fingerprint import Fingerprint, fingerprint
from ..image.picture import BadPicture, Limits

FILE = "prints.parquet"
KEPT_EVERY = 4096


def fingerprints(
    folder: Path,
    files: Mapping[int, str],
    *,
    workers: int = 1,
    limits: Limits | None = None,
    keep: bool = True,
    advance: Callable[[int], None] | None = None,
) -> dict[int, bytes]:
    """uid -> packed fingerprint of every file that can be read.

    Args:
        folder: of the catalogue; `prints.parquet` there is read, and written where `keep`.
        files: uid -> path.
    """
    file = Path(folder) / FILE
    known: dict[int, bytes] = {}
    for table in beside.tables(file, beside.PRINTS):
        for uid, packed in zip(table["uid"].to_pylist(), table["print"].to_pylist(), strict=True):
            if uid in files and _current(packed):
                known[uid] = packed
    step = advance or (lambda _: None)
    step(len(known))
    missing = sorted(files.keys() - known.keys())
    new: list[dict[str, object]] = []
    for uid, packed in zip(missing, _made([files[uid] for uid in missing], workers, limits or Limits()), strict=True):
        step(1)
        if packed is not None:
            known[uid] = packed
            new.append({"uid": uid, "print": packed})
        if keep and len(new) >= KEPT_EVERY:
            beside.append(file, beside.PRINTS, new)
            new = []
    if keep:
        beside.put(file, beside.PRINTS, new)
    return known


def _current(packed: bytes) -> bool:
    try:
        Fingerprint.unpack(packed)
    except ValueError:
        return False
    return True


def _made(paths: list[str], workers: int, limits: Limits) -> Iterable[bytes | None]:
    work = partial(_make, limits=limits)
    if workers <= 1 or len(paths) < 32:
        yield from map(work, paths)
        return
    context = multiprocessing.get_context("spawn")  # a fork of a threaded process may hang
    with ProcessPoolExecutor(workers, mp_context=context, initializer=one_thread) as pool:
        yield from pool.map(work, paths, chunksize=16)


def _make(path: str, *, limits: Limits) -> bytes | None:
    try:
        return fingerprint(decode(read_file(path), limits=limits)).pack()
    except (BadPicture, OSError):
        return None

"""The folders that sets and runs are written to: may they be, how much fits, how fast. Writes one small file and removes it."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .finding import Finding, error, ok, warning

PROBE_BYTES, CHUNK, SECONDS = 32 * 2**20, 2**20, 2.0
FULL, TIGHT, SLOW = 2.0, 20.0, 30.0  # GiB, GiB, MiB a second


@dataclass(frozen=True)
class Place:
    """A folder to write to.

    Attributes:
        names: what lies there, as `runs`.
        folder: the nearest one that exists.
        free_gib: room.
        speed: MiB a second of the probe, up to the disk; None where nothing could be written.
        refusal: why not.
    """

    names: str
    folder: Path
    free_gib: float
    speed: float | None = None
    refusal: str = ""

    def __str__(self) -> str:
        folder = "this folder" if self.folder == Path.cwd() else str(self.folder)
        return f"{folder}, where {self.names} go" if self.names else folder


def judge(place: Place) -> Finding:
    """One folder."""
    name = "disk"
    if place.speed is None:
        what = f"{place} cannot be written to: {place.refusal}"
        return error(name, what, do=f"chmod u+rwx '{place.folder}', or start animeflow in a folder of your own")
    what = f"{place.free_gib:.0f} GiB free in {place}; {place.speed:.0f} MiB/s"
    if place.free_gib < FULL:
        return error(name, what, why="checkpoints are written whole or not at all", do=f"df -h '{place.folder}'")
    if place.free_gib < TIGHT:
        return warning(
            name, what, why="a checkpoint of a released model takes several GiB, a cache some more",
            do="make room, or set run=... and set=... to another disk",
        )  # fmt: skip
    if place.speed < SLOW:
        return warning(name, what, why="runs wait for their checkpoints", do="set run=... and set=... to another disk")
    return ok(name, what)


def measure(names: str, folder: Path, *, size: int = PROBE_BYTES, seconds: float = SECONDS) -> Place:
    """Write a file of at most `size` bytes for at most about `seconds`, flush it to the disk, and remove it."""
    folder = existing(folder)
    free = shutil.disk_usage(folder).free
    piece, written = os.urandom(CHUNK), 0
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".animeflow-probe-") as file:
            start = time.perf_counter()
            while written < min(size, free // 2) and time.perf_counter() - start < seconds:
                file.write(piece)
                written += len(piece)
            file.flush()
            os.fsync(file.fileno())
            taken = time.perf_counter() - start
    except OSError as refusal:
        return Place(names, folder, free / 2**30, refusal=refusal.strerror or str(refusal))
    return Place(names, folder, free / 2**30, written / 2**20 / max(taken, 1e-6))


def existing(path: Path) -> Path:
    """`path`, or the nearest folder above it that is there."""
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def look(config: Mapping[str, Any]) -> list[Finding]:
    """Where the set and the run of these settings lie, each disk once."""
    wanted = [("sets", config["set"]), ("runs", config["run"]), ("", ".")]
    local = [(name, existing(Path(path))) for name, path in wanted if "://" not in str(path)]
    return [judge(measure(" and ".join(filter(None, names)), folder)) for folder, names in _by_folder(local).items()]


def _by_folder(places: Sequence[tuple[str, Path]]) -> dict[Path, list[str]]:
    found: dict[Path, list[str]] = {}
    for name, folder in places:
        found.setdefault(folder, []).append(name)
    return found

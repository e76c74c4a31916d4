"""Files that are whole or absent: written beside, flushed to disk, then renamed. Knows bytes and JSON; knows no format of ours."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .lock import passing

_LEFT = re.compile(r"\.(?P<name>.+)\.\d+-[0-9a-f]{8}\.(?P<kind>tmp|old|lock)")  # what `_beside` names, and its fellows


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")


def sync(path: Path) -> None:
    """Flush a file or folder to disk, so that a rename after it survives a power cut."""
    windows = os.name == "nt"
    if windows and path.is_dir():
        return  # it opens no folder; the journal of its file system keeps renames
    handle = os.open(path, os.O_RDWR if windows else os.O_RDONLY)  # it flushes only what may be written to
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a path beside `path` to write a *file* to; on success it replaces `path`, on an error nothing is left."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path)
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`; on success it becomes `path` (replacing an old one), on an error it is removed.

    A killed process leaves its hidden folders behind; the next writer of `path`, or `sweep`, puts that right.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent, path.name)
    temporary = _beside(path)
    old = temporary.with_suffix(".old")
    with passing(temporary.with_suffix(".lock")):  # held through the renames: nobody takes either for left behind
        temporary.mkdir()
        try:
            yield temporary
            for file in sorted(temporary.rglob("*")):
                sync(file)
            sync(temporary)
            if path.exists():
                os.replace(path, old)
            os.replace(temporary, path)
            sync(path.parent)
            shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            if old.exists() and not path.exists():  # the second rename failed
                os.replace(old, path)


def sweep(parent: Path, name: str | None = None) -> None:
    """Undo what killed writers of `atomic_folder` left in `parent`, for the folder `name` or for all: half-written folders go, an
    old one that was moved aside comes back where no new one took its place. Folders of living processes are let alone, and so
    is everything on a file system without locks: no process number could tell as surely, those are given out again."""
    for left in sorted(parent.glob(".*")) if parent.is_dir() else []:
        match = _LEFT.fullmatch(left.name)
        if not match or name not in (None, match["name"]) or left.is_dir() is (match["kind"] == "lock"):
            continue
        with passing(left.with_suffix(".lock")) as free:
            if not free or match["kind"] == "lock" or not left.exists():  # a lock alone is gone after this
                continue
            if match["kind"] == "old" and not (parent / match["name"]).exists():
                os.replace(left, parent / match["name"])
                sync(parent)
            else:
                shutil.rmtree(left, ignore_errors=True)


def write_bytes(path: str | Path, data: bytes) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | Path, text: str) -> None:
    write_bytes(path, text.encode())


def write_json(path: str | Path, value: Any) -> None:
    """Pretty, key-sorted JSON with a final newline, so that equal values are equal files."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def read_json(path: str | Path) -> Any:
    return json.loads(Path(path).read_text())


def canonical(value: Any) -> bytes:
    """The one byte string of a JSON value: sorted keys, no spaces. Content addresses are hashes of it."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: str | Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def address(**facts: Any) -> str:
    """Content address (32 hex digits) of named facts: the same facts give the same address, any change gives another."""
    return sha256(canonical(facts))[:32]

"""Files that are whole or absent: written beside, flushed to disk, then renamed. Knows bytes and JSON; knows no format of ours."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_LEFT = re.compile(r"\.(?P<name>.+)\.\d+-[0-9a-f]{8}\.(?P<kind>tmp|old)")  # what `_beside` names


def _beside(path: Path, kind: str = "tmp") -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.{kind}")


def sync(path: Path) -> None:
    """Flush a file or folder to disk, so that a rename after it survives a power cut."""
    handle = os.open(path, os.O_RDONLY)
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
    with contextlib.ExitStack() as stack:
        temporary, old = _locked_folder(path, stack), _beside(path, "old")
        try:
            yield temporary
            for file in sorted(temporary.rglob("*")):
                sync(file)
            sync(temporary)
            if path.exists():
                stack.enter_context(_lock(path, wait=True))  # held through the renames: nobody takes it for left behind
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
    is everything on a file system that cannot lock a folder."""
    for left in sorted(parent.glob(".*")) if parent.is_dir() else []:
        match = _LEFT.fullmatch(left.name)
        if not match or name not in (None, match["name"]) or not left.is_dir():
            continue
        with _lock(left) as free:
            if not free:
                continue
            if match["kind"] == "old" and not (parent / match["name"]).exists():
                os.replace(left, parent / match["name"])
                sync(parent)
            else:
                shutil.rmtree(left, ignore_errors=True)


def _locked_folder(path: Path, stack: contextlib.ExitStack) -> Path:
    while True:
        temporary = _beside(path)
        temporary.mkdir()
        stack.enter_context(_lock(temporary, wait=True))
        if temporary.exists():  # else a sweep came between the two lines above
            return temporary


@contextlib.contextmanager
def _lock(folder: Path, *, wait: bool = False) -> Iterator[bool]:
    """Hold a folder's lock inside; False where another process holds it, or there is none to be had. A rename does not loosen it;
    the death of its process does, which no process number could tell as surely: those are given out again."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        yield False
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            held = True
        except OSError:
            held = False
        yield held
    finally:
        os.close(handle)


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

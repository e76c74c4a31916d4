"""Bytes of a picture, out of a file of its own or out of a tar by the index beside it: `0001.tar!9000075.png`. Unpacks nothing.

The index is the JSON of the tar's name, as hfutils, cheesechaser and webshart write it: `{"files": {NAME: {"offset", "size" or
"length", "sha256"?}}}`. What it says is checked: no byte outside the tar is read, and the bytes have the sha256 that it names;
where it names none, the tar's own header before them has to be that of a file of this size. Knows paths; knows no picture.
"""

from __future__ import annotations

import errno
import hashlib
import os
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..core.errors import DataError
from ..core.files import read_json

TAR = ".tar"
MARK = "!"
BLOCK = tarfile.BLOCKSIZE


@dataclass(frozen=True, slots=True)
class Member:
    """Where a file lies in its tar."""

    offset: int
    size: int
    sha256: bytes | None = None


@dataclass(frozen=True)
class Index:
    """What lies in a tar. `refused` are names whose entry cannot be used, and why; `bytes` and `sha256` are those of the tar."""

    members: Mapping[str, Member]
    refused: Mapping[str, str]
    bytes: int | None = None
    sha256: str | None = None


def member_path(tar: Path, name: str) -> Path:
    """How a file in a tar is written where a path is asked for."""
    return Path(f"{tar}{MARK}{name}")


def split_path(path: str | Path) -> tuple[Path, str] | None:
    """Tar and name, for a path into a tar; None for any other, also that of a file which is really called so."""
    text = str(path)
    at = text.lower().find(TAR + MARK)
    if at < 0 or os.path.isfile(text):
        return None
    tar, name = text[: at + len(TAR)], text[at + len(TAR) + len(MARK) :]
    return (Path(tar), name.replace(os.sep, "/")) if name else None


def read_file(path: str | Path) -> bytes:
    """All bytes of a picture, wherever it lies. Raises OSError where it is not there or is not what the index says."""
    inside = split_path(path)
    if inside is None:
        return Path(path).read_bytes()
    tar, name = inside
    member = _member(tar, name)
    with open(tar, "rb") as file:
        if member.offset + member.size > os.fstat(file.fileno()).st_size:
            raise OSError(errno.EIO, f"{name} ends behind the end of {tar.name}", str(path))
        if member.sha256 is None:
            _check_header(file.fileno(), member, str(path))
        file.seek(member.offset)
        data = file.read(member.size)
    if len(data) != member.size:
        raise OSError(errno.EIO, f"{tar.name} was cut while it was read", str(path))
    if member.sha256 is not None and hashlib.sha256(data).digest() != member.sha256:
        raise OSError(errno.EIO, f"the bytes in {tar.name} are not those that its index names", str(path))
    return data


def size_and_time(path: str | Path) -> tuple[int, int]:
    """Bytes of a picture and the time in ns at which they last changed; of one in a tar, the later of the tar's and its index's."""
    inside = split_path(path)
    if inside is None:
        stat = os.stat(path)
        return stat.st_size, stat.st_mtime_ns
    tar, name = inside
    member = _member(tar, name)
    return member.size, max(tar.stat().st_mtime_ns, index_of(tar).stat().st_mtime_ns)


def index_of(tar: Path) -> Path:
    """The file in which the index of a tar is looked for."""
    return tar.with_suffix(".json")


def read_index(tar: Path) -> Index:
    """The index beside a tar. Raises DataError where it is none, FileNotFoundError where it is not there."""
    file = index_of(tar)
    stat = file.stat()
    return _read_index(str(file), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=32)  # a tar has some thousand files, about 300 bytes each here
def _read_index(file: str, size: int, mtime_ns: int) -> Index:
    try:
        value = read_json(file)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} is not JSON", why=str(error)[:120], do="fetch the index again") from error
    files = value.get("files") if isinstance(value, dict) else None
    if not isinstance(files, dict):
        raise DataError(f"{file} is no index of a tar", why="it has no object `files`", do="fetch the index again")
    members: dict[str, Member] = {}
    refused: dict[str, str] = {}
    for name, entry in files.items():
        if problem := _name_problem(name):
            refused[name] = problem
        elif isinstance(made := _entry(entry), Member):
            members[name] = made
        else:
            refused[name] = made
    total, digest = value.get("filesize"), value.get("hash_lfs")
    return Index(members, refused, _count(total), digest.lower() if isinstance(digest, str) else None)


def _name_problem(name: str) -> str | None:
    """Names are never opened as files; but they become paths in the catalogue, which have to stay as they are written."""
    parts = name.split("/")
    if "\\" in name or "\0" in name or any(part in ("", ".", "..") for part in parts):
        return "its name leads out of the tar"
    return None


def _entry(entry: Any) -> Member | str:
    if not isinstance(entry, dict):
        return "its entry in the index is no object"
    offset, size = _count(entry.get("offset")), _count(entry.get("size", entry.get("length")))
    if offset is None or size is None:
        return "its entry in the index has no offset and size"
    digest = entry.get("sha256")
    if digest in (None, ""):
        return Member(offset, size)
    try:
        sha256 = bytes.fromhex(digest)
    except (TypeError, ValueError):
        sha256 = b""
    return Member(offset, size, sha256) if len(sha256) == 32 else "the sha256 in its entry of the index is none"


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63 else None


def _member(tar: Path, name: str) -> Member:
    if not tar.is_file():
        raise FileNotFoundError(errno.ENOENT, f"there is no {tar.name}", str(tar))
    try:
        index = read_index(tar)
    except DataError as error:
        raise OSError(errno.EIO, error.what, str(tar)) from error
    if name in index.members:
        return index.members[name]
    if name in index.refused:
        raise OSError(errno.EIO, index.refused[name], f"{tar}{MARK}{name}")
    raise FileNotFoundError(errno.ENOENT, f"the index of {tar.name} has no {name}", f"{tar}{MARK}{name}")


def _check_header(descriptor: int, member: Member, path: str) -> None:
    """The block before a file's bytes is its header, with a checksum of its own: an index of another tar is found out."""
    os.lseek(descriptor, max(0, member.offset - BLOCK), os.SEEK_SET)
    block = os.read(descriptor, BLOCK)
    try:
        header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise OSError(errno.EIO, f"no file of the tar begins at {member.offset}", path) from error
    if member.offset < BLOCK or not header.isreg() or header.size != member.size:
        raise OSError(errno.EIO, f"the tar has no file of {member.size:,} bytes at {member.offset}", path)

"""Identity of weights: hashes that name a codec or an encoder for good. Knows tensors and files; knows no network."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..core.errors import DataError
from ..core.files import address, read_json, sha256_file, write_json

REMEMBER_BYTES = 64 * 1024 * 1024  # hashes of larger files are remembered between runs; smaller ones are read again


def hash_state(state: Mapping[str, Tensor]) -> str:
    """sha256 over every byte of every tensor with its name, shape and dtype, in the order of names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tuple(tensor.shape)}|{tensor.dtype}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def hash_files(files: Iterable[Path]) -> str:
    """One hash over the bytes and names of `files`. That of a large file is remembered by its path, size and time of change."""
    return address(**{file.name: _hash_file(file) for file in sorted(files)})


def weight_files(folder: Path) -> list[Path]:
    """Safetensors and config of one part (a text encoder, a codec) in diffusers' folder layout.

    Raises:
        DataError: there is no safetensors file; pickled weights are never opened.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise DataError(
            "no *.safetensors file here",
            where=str(folder),
            do="give the folder of a part in diffusers' layout, saved as safetensors",
        )
    return [*files, *sorted(folder.glob("config.json"))]


def _hash_file(file: Path) -> str:
    facts = file.stat()
    if facts.st_size < REMEMBER_BYTES:
        return sha256_file(file)
    key = f"{file.resolve()}|{facts.st_size}|{facts.st_mtime_ns}"
    memory = _memory()
    known: dict[str, str] = {}
    with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):  # a lost memory only costs time
        known = read_json(memory)
    if key not in known:
        known[key] = sha256_file(file)
        with contextlib.suppress(OSError):  # a read-only home: hash again next time
            write_json(memory, known)
    return known[key]


def _memory() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "animeflow" / "file_hashes.json"

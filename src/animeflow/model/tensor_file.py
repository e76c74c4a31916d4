"""Safetensors files for other programs: cast, header, and a second look at what was written. Knows tensors; knows no family."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..core.errors import ConfigError, DataError, did_you_mean

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
HASH = "modelspec.hash_sha256"  # of all bytes after the header, so it cannot be known before the file is written
UNKNOWN_HASH = "0x" + "0" * 64


def dtype_named(name: str, *, where: str = "export.dtype") -> torch.dtype:
    """`bf16`, `fp16`, `fp32`, or torch's own words for them."""
    known = DTYPES | {str(dtype).removeprefix("torch."): dtype for dtype in DTYPES.values()}
    if name not in known:
        raise ConfigError(
            f"unknown dtype '{name}'{did_you_mean(name, known)}", where=where, do=f"choose one of: {', '.join(DTYPES)}"
        )
    return known[name]


def cast(state: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Floating tensors in `dtype`, on the CPU, contiguous; others as they are. Nothing is copied that already fits.

    Raises:
        DataError: a weight is not a finite number, or becomes infinite in `dtype` (fp16 ends at 65504).
    """
    return {name: _cast(name, tensor.detach(), dtype).cpu().contiguous() for name, tensor in state.items()}


def _cast(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    result = tensor.to(dtype)
    if torch.isfinite(result).all():
        return result
    if torch.isfinite(tensor).all():
        largest = tensor.abs().max().item()
        raise DataError(
            f"'{name}' does not fit into {dtype}: it holds {largest:g}, and {torch.finfo(dtype).max:g} is the most that fits",
            why="it would become infinite, and every picture black",
            do="export as bf16 or fp32",
        )
    broken = tensor.numel() - int(torch.isfinite(tensor).sum())
    raise DataError(
        f"'{name}' holds {broken} numbers that are not finite", do="export an earlier checkpoint: this run has diverged"
    )


def write_tensors(path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Path:
    """Write, read again and compare bit for bit. Where `metadata` holds `modelspec.` keys, the hash of the tensors joins them.

    Raises:
        DataError: what is on the disk is not what was to be written.
    """
    header = {"format": "pt", **metadata}
    if any(key.startswith("modelspec.") for key in header):
        header[HASH] = UNKNOWN_HASH
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(dict(state), path, metadata=header)
    path.chmod(0o644)  # the library writes files that only their owner reads
    _finish_header(path)
    with open_tensors(path) as file:
        verify(state, {name: file.get_tensor(name) for name in file.keys()}, where=str(path))  # noqa: SIM118  not a dict
    return path


def open_tensors(path: Path) -> safe_open:
    try:
        return safe_open(path, framework="pt")
    except (OSError, SafetensorError) as error:
        raise DataError(
            f"this is no whole safetensors file: {error}", where=str(path), do="copy or download it again"
        ) from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file on the CPU."""
    with open_tensors(path):
        return load_file(path)


def only_file(path: Path, *, within: Sequence[str] = ("",)) -> Path:
    """The safetensors file at `path`: itself, or the one in the first of the folders `within` it that holds any.

    Raises:
        ConfigError: there is none, or more than one.
    """
    if path.is_file():
        return path
    found = next((files for name in within if (files := sorted((path / name).glob("*.safetensors")))), [])
    if len(found) != 1:
        raise ConfigError(
            f"found {len(found)} model files, need one",
            where=str(path),
            do="give the file itself, or a folder that 'animeflow export' wrote",
        )
    return found[0]


def read_metadata(path: Path) -> dict[str, str]:
    """The header's strings."""
    with open_tensors(path) as file:
        return dict(file.metadata() or {})


def verify(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], *, where: str) -> None:
    """Raise `DataError` unless both hold the same names, and under each the same dtype, shape and bits."""
    left, over = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    different = [name for name in expected.keys() & found.keys() if not _same(expected[name], found[name])]
    if left or over or different:
        raise DataError(
            f"{len(left)} tensors are missing {left[:3]}, {len(over)} are too many {over[:3]}, {len(different)} differ "
            f"{sorted(different)[:3]}",
            where=where,
            why="a file that does not give back what was written is not an export",
            do="check the disk and export again",
        )


def _same(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(_bytes(a), _bytes(b))


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)


def _finish_header(path: Path) -> None:
    """Sort the strings of the header, which the library writes in random order, so that equal models are equal files; and put
    the hash of the tensors in place of its zeros. The length of the header stays, or the tensors would have to move."""
    with open(path, "r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        strings = header.pop("__metadata__")
        if HASH in strings:
            strings[HASH] = "0x" + hashlib.file_digest(file, "sha256").hexdigest()
        header = {"__metadata__": dict(sorted(strings.items())), **header}
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(length)
        if len(text) != length:
            raise DataError(f"the header became {len(text)} bytes long instead of {length}", where=str(path))
        file.seek(8)
        file.write(text)

"""One file of cached tensors: a plain safetensors file, and beside it a small index of addresses. Knows bytes; knows no picture.

The tensors of one address lie side by side, so an entry is one read and one hash. The index can be rebuilt from the file.
"""

from __future__ import annotations

import io
import json
import math
import threading
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from torch import Tensor

from ..core import files
from ..core.errors import DataError

ENTRY = np.dtype([("address", "S16"), ("begin", "<u8"), ("size", "<u8"), ("layout", "<u4"), ("xxh3", "<u8")])
"""One address: 16 raw bytes, byte range in the file, number of its layout, xxh3-64 of the range."""

Layout = tuple[tuple[str, str, tuple[int, ...]], ...]
"""Names, dtypes and shapes of the tensors of an entry, in the order of their bytes."""

_DTYPES = {
    torch.bfloat16: "BF16", torch.float32: "F32", torch.float16: "F16", torch.int64: "I64", torch.int32: "I32",
    torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
TORCH = {name: dtype for dtype, name in _DTYPES.items()}

# numpy reads the header of an array as a Python literal, and CPython before 3.13 counts the depth of all threads that parse in one
# place: two at once may fail with "AST constructor recursion depth mismatch" (python/cpython#106905).
_one_parser = threading.Lock()


@dataclass(frozen=True)
class Segment:
    """The index of one file: `entries` of dtype ENTRY sorted by address, and the layouts they point to."""

    path: Path
    entries: np.ndarray
    layouts: tuple[Layout, ...]


def raw(address: str) -> bytes:
    """The 16 bytes of an address of 32 hex digits."""
    return bytes.fromhex(address)


def tensor_name(address: str, name: str) -> str:
    """Name inside the safetensors file; an entry of one nameless tensor goes by its address alone."""
    return f"{address}/{name}" if name else address


def write_segment(path: Path, items: Mapping[str, Mapping[str, Tensor]]) -> Segment:
    """Write entries (address -> name -> tensor) as one safetensors file and its index, each atomically."""
    header: dict[str, Any] = {}
    blobs: list[bytes] = []
    end = 0
    for address, tensors in sorted(items.items()):
        for name, tensor in sorted(tensors.items()):
            blob = _bytes(tensor)
            header[tensor_name(address, name)] = {
                "dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [end, end + len(blob)],
            }  # fmt: skip
            blobs.append(blob)
            end += len(blob)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with files.atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.writelines(blobs)
    return _index(path)


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def index_path(path: Path) -> Path:
    return path.with_suffix(".index.npz")


def read_index(file: Path | io.BytesIO) -> dict[str, np.ndarray]:
    """All arrays of an index file. A broken one raises what numpy raises: OSError, ValueError, KeyError, EOFError, BadZipFile."""
    with _one_parser, np.load(file, allow_pickle=False) as saved:
        return {part: saved[part] for part in ("name", "bytes", "layouts", "entries")}


def open_segment(path: Path) -> Segment:
    """Read the index beside a file, or rebuild it from the file. Raises DataError when the file is cut short or not ours."""
    beside, size = index_path(path), path.stat().st_size
    if beside.is_file():
        try:
            saved = read_index(beside)
            if (str(saved["name"]), int(saved["bytes"])) == (path.name, size):
                layouts = json.loads(saved["layouts"].tobytes())
                return Segment(path, saved["entries"], tuple(_layout(rows) for rows in layouts))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            pass  # the index is only a copy of what the file says
    return _index(path)


def _layout(rows: Any) -> Layout:
    return tuple((name, dtype, tuple(shape)) for name, dtype, shape in rows)


def _index(path: Path) -> Segment:
    """Index a file from its own header and bytes, and write the index beside it."""
    entries: list[tuple[bytes, int, int, int, int]] = []
    layouts: dict[Layout, int] = {}
    with open(path, "rb") as file:
        for address, layout, begin, size in _read_header(path, file.read(8), file):
            file.seek(begin)
            number = layouts.setdefault(layout, len(layouts))
            entries.append((raw(address), begin, size, number, xxhash.xxh3_64_intdigest(file.read(size))))
    table = np.sort(np.array(entries, dtype=ENTRY), order="address")
    buffer = io.BytesIO()
    text = np.frombuffer(json.dumps(list(layouts)).encode(), dtype=np.uint8)
    np.savez(buffer, entries=table, layouts=text, name=np.str_(path.name), bytes=np.int64(path.stat().st_size))
    files.write_bytes(index_path(path), buffer.getvalue())
    return Segment(path, table, tuple(layouts))


def _read_header(path: Path, length: bytes, file: io.BufferedReader) -> Iterator[tuple[str, Layout, int, int]]:
    """(address, layout, begin, size) of every entry, positions from the start of the file."""
    size = path.stat().st_size
    try:
        start = 8 + int.from_bytes(length, "little")
        if len(length) < 8 or start > size:
            raise ValueError("its header is cut short")
        header = json.loads(file.read(start - 8))
        header.pop("__metadata__", None)
        rows = sorted((facts["data_offsets"], name, facts) for name, facts in header.items())
        if start + max((end for (_, end), _, _ in rows), default=0) != size:
            raise ValueError("its tensors are cut short")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"a file of the cache is broken: {error}", where=str(path),
            do="delete it and run 'cache' again: only what was in it is encoded anew",
        ) from error  # fmt: skip
    grouped: dict[str, list[tuple[str, str, tuple[int, ...], int, int]]] = {}
    for (begin, end), full, facts in rows:
        address, _, name = full.partition("/")
        grouped.setdefault(address, []).append((name, facts["dtype"], tuple(facts["shape"]), begin, end))
    for address, parts in grouped.items():
        layout = tuple((name, dtype, shape) for name, dtype, shape, _, _ in parts)
        yield address, layout, start + parts[0][3], parts[-1][4] - parts[0][3]


def layout_of(tensors: Mapping[str, Tensor]) -> Layout:
    """The layout of an entry that holds these tensors."""
    return tuple((name, _DTYPES[tensor.dtype], tuple(tensor.shape)) for name, tensor in sorted(tensors.items()))


def tensors_of(data: bytes, layout: Layout) -> dict[str, Tensor]:
    """Cut the bytes of an entry into its tensors."""
    tensors, begin = {}, 0
    for name, dtype, shape in layout:
        kind = TORCH[dtype]
        size = math.prod(shape) * kind.itemsize
        part = bytearray(data[begin : begin + size])  # a copy of its own: aligned, and writable as torch wants it
        tensors[name] = torch.frombuffer(part, dtype=kind).reshape(shape) if size else torch.empty(shape, dtype=kind)
        begin += size
    return tensors

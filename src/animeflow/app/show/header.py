"""The header of a safetensors file, without its tensors: names, shapes, dtypes and strings. Knows bytes and JSON; loads nothing."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ...core.errors import DataError

MOST = 100_000_000  # bytes of a header, as the format has it
PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")  # of torch: a zip, or the stream itself
PICKLED = (".pt", ".pth", ".ckpt", ".bin", ".pkl")


@dataclass(frozen=True)
class Entry:
    """One tensor as the header has it; `dtype` in the format's words."""

    dtype: str
    shape: tuple[int, ...]
    bytes: int

    @property
    def numbers(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Header:
    tensors: dict[str, Entry]
    metadata: dict[str, str]
    bytes: int  # of the whole file

    @property
    def parameters(self) -> int:
        return sum(entry.numbers for entry in self.tensors.values())

    def dtypes(self) -> dict[str, int]:
        """Tensors by dtype, the most frequent first."""
        return dict(Counter(entry.dtype for entry in self.tensors.values()).most_common())


def read_header(path: Path) -> Header:
    """Raises DataError for a file that is pickled, half there or of another format."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        start = file.read(8)
        if start[:4] in PICKLES or start[:2] in PICKLES or path.suffix.lower() in PICKLED:
            raise pickled(path)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or not 2 <= length <= MOST:
            raise _broken(path, "it does not begin like one")
        if size < 8 + length:
            raise _broken(path, f"it ends within its header, after {size} bytes")
        text = file.read(length)
    try:
        value = json.loads(text)
        if rb"\u" in text:
            json.dumps(value, ensure_ascii=False).encode()  # half a character cannot be printed
        metadata = {str(key): str(text) for key, text in (value.pop("__metadata__", None) or {}).items()}
        tensors = {
            name: Entry(each["dtype"], tuple(each["shape"]), each["data_offsets"][1] - each["data_offsets"][0])
            for name, each in value.items()
        }
        end = max((each["data_offsets"][1] for each in value.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise _broken(path, "its header is no JSON of tensors") from error
    if size != 8 + length + end:
        raise _broken(path, f"it has {size} bytes, and its header speaks of {8 + length + end}")
    return Header(tensors, metadata, size)


def pickled(path: Path) -> DataError:
    return DataError(
        "this file is pickled, and is not opened",
        where=str(path),
        why="reading a pickle runs whatever code it holds",
        do="get the same weights as .safetensors, or convert it in a program and on a machine that you trust it on",
    )


def _broken(path: Path, why: str) -> DataError:
    return DataError(f"this is no whole safetensors file: {why}", where=str(path), do="copy or download it again")

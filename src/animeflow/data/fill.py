"""Entries of a store straight into the rows of one tensor, each with one copy. Knows files and bytes; knows no picture.

The kernel copies from its page cache into the row, and the hash reads the row while it is still in the processor's cache. Whatever
goes wrong on the way is left to `Store.get`, which reads the entry again and either has it or says what is broken.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import xxhash
from torch import Tensor

from .segment import TORCH, Layout
from .store import Located, Store


def stacked(
    store: Store,
    addresses: Sequence[str],
    *,
    pin: bool = False,
    out: Tensor | None = None,
    verify: bool = True,
    walk: Callable[..., Iterator[Any]] = map,
) -> Tensor:
    """The one nameless tensor of every address, `[B, ...]`, in the dtype it is stored in.

    Args:
        pin: into page-locked memory. torch keeps such blocks and hands one out again when no copy reads it any more.
        out: memory to fill instead of a new tensor, for those who know that nobody holds it.
        verify: compare each entry with its hash; only a benchmark goes without.
        walk: `map`, or one that works side by side.
    Raises:
        DataError: an entry is missing or broken; its file is named.
    """
    located = [store.locate(address) for address in addresses]
    known = next((each.layout for each in located if each), None)
    dtype, shape = _form(known) if known else _form_of(store.get(addresses[0])[""])
    whole = (len(addresses), *shape)
    tensor = _allocate(whole, dtype, pin=pin) if out is None else out
    if tensor.shape != whole or tensor.dtype != dtype or not tensor.is_contiguous():
        raise ValueError(f"{tensor.dtype} {list(tensor.shape)} cannot take entries of {dtype} {list(whole)}")
    bytes_BS = tensor.view(len(addresses), -1).view(torch.uint8).numpy()

    def fill(place: int) -> None:
        entry = located[place]
        fits = entry is not None and entry.layout == known
        if not (fits and read_into(entry, bytes_BS[place], verify=verify)):  # type: ignore[arg-type]
            tensor[place].copy_(store.get(addresses[place])[""])

    for _ in walk(fill, range(len(addresses))):
        pass
    return tensor


def read_into(entry: Located, row_S: np.ndarray, *, verify: bool = True) -> bool:
    """Read the bytes of an entry into `row_S` (uint8, of its size). False when they are not all there or not those written."""
    if len(row_S) != entry.size:
        return False
    try:
        handle = os.open(entry.path, os.O_RDONLY)
    except OSError:
        return False
    try:
        done = os.preadv(handle, [row_S], entry.begin)
        while 0 < done < entry.size and (more := os.preadv(handle, [row_S[done:]], entry.begin + done)):
            done += more
    except OSError:
        return False
    finally:
        os.close(handle)
    return done == entry.size and (not verify or xxhash.xxh3_64_intdigest(row_S) == entry.xxh3)


def _form(layout: Layout) -> tuple[torch.dtype, tuple[int, ...]]:
    (_, dtype, shape), *others = layout
    assert not others, "entries that are stacked hold one tensor"
    return TORCH[dtype], shape


def _form_of(tensor: Tensor) -> tuple[torch.dtype, tuple[int, ...]]:
    return tensor.dtype, tuple(tensor.shape)


def _allocate(shape: tuple[int, ...], dtype: torch.dtype, *, pin: bool) -> Tensor:
    """New memory. Touching it for the first time costs more than the copy into it, unless pages are large: numpy asks for such."""
    if pin:
        return torch.empty(shape, dtype=dtype, pin_memory=True)
    return torch.from_numpy(np.empty(math.prod(shape) * dtype.itemsize, np.uint8)).view(dtype).view(shape)

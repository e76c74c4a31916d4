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

from .segment import TORCH, Layout, layout_of
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
    if known is None:
        parts = list(walk(lambda address: store.get(address)[""], addresses))
        return torch.stack(parts, out=_room(out, len(parts), layout_of({"": parts[0]}), pin=pin))
    tensor = _room(out, len(addresses), known, pin=pin)
    bytes_BS = tensor.view(len(addresses), -1).view(torch.uint8).numpy()

    def fill(place: int) -> None:
        entry = located[place]
        there = entry is not None and entry.layout == known and read_into(entry, bytes_BS[place], verify=verify)
        if not there:
            found = store.get(addresses[place])[""]
            if found.shape != tensor.shape[1:]:  # copying would repeat it where it can
                raise ValueError(f"{list(found.shape)} cannot lie in a batch of {list(tensor.shape[1:])}")
            tensor[place].copy_(found)

    for _ in walk(fill, range(len(addresses))):
        pass
    return tensor


def read_into(entry: Located, row_S: np.ndarray, *, verify: bool = True) -> bool:
    """Read the bytes of an entry into `row_S` (uint8, of its size). False when they are not all there or not those written."""
    view = row_S.data
    if len(view) != entry.size:
        return False
    try:
        handle = os.open(entry.path, os.O_RDONLY)
    except OSError:
        return False
    try:
        done = os.preadv(handle, [view], entry.begin)
        while 0 < done < entry.size and (more := os.preadv(handle, [view[done:]], entry.begin + done)):
            done += more
    except OSError:
        return False
    finally:
        os.close(handle)
    return done == entry.size and (not verify or xxhash.xxh3_64_intdigest(view) == entry.xxh3)


def _room(out: Tensor | None, count: int, layout: Layout, *, pin: bool) -> Tensor:
    """`out`, or new memory, for `count` entries of a layout. To touch new memory for the first time costs more than the copy into
    it, unless its pages are large: numpy asks for such."""
    ((_, name, shape),) = layout
    whole, dtype = (count, *shape), TORCH[name]
    if out is not None:
        if out.shape != whole or out.dtype != dtype or not out.is_contiguous():
            raise ValueError(f"{out.dtype} {list(out.shape)} cannot take entries of {dtype} {list(whole)}")
        return out
    if pin:
        return torch.empty(whole, dtype=dtype, pin_memory=True)
    return torch.from_numpy(np.empty(math.prod(whole) * dtype.itemsize, np.uint8)).view(dtype).view(whole)

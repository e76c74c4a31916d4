"""Brotli inside of a C2PA manifest store: boxes `brob`, which hold another box, packed. Knows boxes and budgets; judges nothing.

The unpacker is `brotli`, from 1.2 on: older ones cannot be told how much may come out. Without it a packed manifest is a place that
could not be read, and says so.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from .places import Places

UNREAD = "c2pa_packed"
"""The note of a picture whose manifest is packed, and nothing here unpacks it."""

MAX_BOXES = 64
PART = 1 << 16


def unpacked(store: bytes, places: Places) -> bytes:
    """The store with what its packed boxes hold behind it; `places` learns of one that could not be unpacked."""
    boxes = list(_boxes(store))
    if not boxes:
        return store
    brotli = _brotli()
    if brotli is None:
        places.notes.append(UNREAD)
        return store
    return b"".join([store, *(_inflated(brotli, box, places) for box in boxes)])


def _boxes(store: bytes) -> Iterator[bytes]:
    """Payloads of the boxes; a length of zero says to the end, one that is too long is cut there."""
    at = 0
    for _ in range(MAX_BOXES):
        at = store.find(b"brob", at) + 4
        if at < 8:
            return
        length = struct.unpack_from(">I", store, at - 8)[0]
        head = 8
        if length == 1 and at + 8 <= len(store):
            length, head = struct.unpack_from(">Q", store, at)[0], 16
        yield store[at + head - 8 : at - 8 + length if length >= head else None]


def _inflated(brotli: Any, box: bytes, places: Places) -> bytes:
    """After four letters, the kind of the box inside; some writers leave them out."""
    for start in (4, 0):
        if (out := _stream(brotli, box[start:], places)) and b"jumd" in out:
            return out
    return b""


def _stream(brotli: Any, data: bytes, places: Places) -> bytes:
    """As far as it is whole and the budget lasts: at most PART and a bit at once, whatever the stream claims."""
    stream, out = brotli.Decompressor(), bytearray()
    try:
        while places.inflatable > 0 and not stream.is_finished():
            part = stream.process(data, output_buffer_limit=min(PART, places.inflatable))
            if not part and not data:
                break
            data = b""
            out += part
            places.inflatable -= len(part)
    except brotli.error:
        pass  # what came before the break still speaks
    return bytes(out)


def _brotli() -> Any:
    """The module, None where there is none that can be bounded."""
    try:
        import brotli
    except ImportError:
        return None
    return brotli if hasattr(brotli.Decompressor, "can_accept_more_data") else None

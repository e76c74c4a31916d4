"""What a file says beside its pixels: texts, EXIF, XMP, C2PA manifests. Knows the budget; knows no container, judges nothing.

A budget bounds what a hostile file may cost: copied bytes, inflated bytes and the number of texts all stop at a limit.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field

from PIL import Image

from ..picture import BadPicture

# What a broken place raises. Anything else is a fault of ours.
BROKEN = (
    *(struct.error, zlib.error, IndexError, KeyError, ValueError, TypeError, OverflowError, OSError, SyntaxError),
    *(EOFError, RuntimeError, MemoryError, BadPicture, Image.DecompressionBombError),
)
MAX_TEXTS = 512
MAX_INFLATED = 8 * 1024 * 1024  # of all texts of a file together


@dataclass
class Places:
    """What was found, in the order of the file.

    Attributes:
        left: bytes that may still be copied.
        inflatable: bytes that may still come out of inflating.
        texts: (kind of the place, key, text).
        exif: TIFF structures. xmp: packets. c2pa: manifest stores.
        notes: slugs of what could not be read, for counting.
    """

    left: int
    inflatable: int = MAX_INFLATED
    texts: list[tuple[str, str, str]] = field(default_factory=list)
    exif: list[bytes] = field(default_factory=list)
    xmp: list[bytes] = field(default_factory=list)
    c2pa: list[bytes] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def take(self, data: bytes, start: int, length: int) -> bytes:
        """A copy of a part of the file, cut where the budget ends."""
        part = data[start : start + max(0, min(length, self.left))]
        self.left -= len(part)
        return part

    def add_text(self, kind: str, key: str, text: str) -> None:
        if len(self.texts) < MAX_TEXTS:
            self.texts.append((kind, key.strip().lower(), text))

    def inflate(self, packed: bytes, *, wbits: int = zlib.MAX_WBITS) -> bytes:
        """What comes out of a deflated stream, as far as it is whole and the budget lasts; a bomb costs no more than that."""
        stream, out = zlib.decompressobj(wbits), bytearray()
        try:
            while self.inflatable > 0 and not stream.eof:
                part = stream.decompress(packed, min(self.inflatable, 1 << 16))
                packed = stream.unconsumed_tail
                if not part:
                    break
                out += part
                self.inflatable -= len(part)
        except zlib.error:
            pass  # what came before the break is still text
        return bytes(out)


def utf8(data: bytes) -> str:
    """Text that may be broken: a byte that is none becomes a mark."""
    return data.decode("utf-8", "replace")

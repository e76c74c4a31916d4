"""The places of a PNG: text chunks wherever they stand, eXIf, caBX, and ComfyUI's private `comf`. Knows chunks; judges nothing."""

from __future__ import annotations

from collections.abc import Callable

from ..header import png_chunks
from .places import BROKEN, Places, utf8

XMP_KEY = b"XML:com.adobe.xmp"
RAW = "raw profile type "  # how ImageMagick keeps EXIF and XMP in text, as hexadecimal digits


def read(data: bytes, places: Places) -> None:
    """Every chunk up to IEND. Text after IDAT counts as much as text before it."""
    for kind, start, length in png_chunks(data):
        reader = READERS.get(kind)
        if reader is None:
            continue
        try:
            reader(places.take(data, start, length), places)
        except BROKEN:
            continue  # one broken chunk says nothing of the others


def _latin(chunk: bytes, places: Places) -> None:
    key, _, text = chunk.partition(b"\0")
    _keep(key, text, places)


def _deflated(chunk: bytes, places: Places) -> None:
    key, _, rest = chunk.partition(b"\0")
    if _wanted(key) and rest[:1] == b"\0":
        _keep(key, places.inflate(rest[1:]), places)


def _international(chunk: bytes, places: Places) -> None:
    key, _, rest = chunk.partition(b"\0")
    if not _wanted(key):
        return
    packed, method = rest[0], rest[1]
    _language, _, rest = rest[2:].partition(b"\0")
    _translated, _, text = rest.partition(b"\0")
    if packed == 0:
        _keep(key, text, places)
    elif method == 0:
        _keep(key, places.inflate(text), places)


def _private(chunk: bytes, places: Places) -> None:
    key, _, text = chunk.partition(b"\0")
    places.add_text("chunk", key.decode("latin-1"), utf8(text))


def _wanted(key: bytes) -> bool:
    return len(key) <= 79  # PNG's own limit; what is longer is no key


def _keep(key: bytes, text: bytes, places: Places) -> None:
    name = key.decode("latin-1").strip().lower()
    if key == XMP_KEY:
        places.xmp.append(text)
    elif name.startswith(RAW):
        _raw_profile(name.removeprefix(RAW), text, places)
    elif _wanted(key):
        places.add_text("png_text", name, _text(text))


def _text(text: bytes) -> str:
    """tEXt is Latin-1 by the book; several programs write UTF-8."""
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        return text.decode("latin-1")


def _raw_profile(name: str, text: bytes, places: Places) -> None:
    """`\\nexif\\n    1234\\n` and hexadecimal digits."""
    blob = bytes.fromhex(b"".join(text.split()[2:]).decode("ascii"))
    if blob.startswith(b"Exif\0\0"):
        places.exif.append(blob[6:])
    elif name == "exif":
        places.exif.append(blob)
    elif name in ("xmp", "app1"):
        places.xmp.append(blob)


READERS: dict[bytes, Callable[[bytes, Places], None]] = {
    b"tEXt": _latin,
    b"zTXt": _deflated,
    b"iTXt": _international,
    b"eXIf": lambda chunk, places: places.exif.append(chunk.removeprefix(b"Exif\0\0")),
    b"caBX": lambda chunk, places: places.c2pa.append(chunk),
    b"comf": _private,
}

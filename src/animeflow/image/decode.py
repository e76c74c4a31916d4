"""Bytes of a picture file to sRGB pixels. Knows Pillow, and OpenCV where that is more exact (16 bits) or gives the very same pixels
sooner (JPEG); knows no bucket."""

from __future__ import annotations

import io
import struct

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from .colour import to_srgb
from .header import Header, read_header
from .picture import BadPicture, Limits, Picture, PictureFacts, Pixels

__all__ = ["BadPicture", "Limits", "Picture", "PictureFacts", "decode"]

ORIENTATION = 0x0112
CUT_OFF = ("truncated", "premature", "unexpected end", "not enough", "broken data stream")
# What decoders raise on broken bytes; anything else is a fault of ours and is not hidden.
BROKEN = (
    *(OSError, SyntaxError, ValueError, EOFError, RuntimeError, MemoryError),
    *(struct.error, IndexError, KeyError, TypeError, OverflowError),
)


def decode(data: bytes, *, background: tuple[int, int, int] = (255, 255, 255), limits: Limits | None = None) -> Picture:
    """The first frame as uint8 RGB `[H, W, 3]` in sRGB: profile applied, EXIF orientation applied, alpha over `background`.

    Raises BadPicture with a reason: empty, unknown_format, truncated, unreadable, too_large.
    """
    limits = limits or Limits()
    header = read_header(data, limits)
    notes = list(header.notes)
    try:
        with Image.open(io.BytesIO(header.clean), formats=(header.format,)) as image:
            limits.check_size(image.height, image.width)
            mode, frames = image.mode, header.frames or int(getattr(image, "n_frames", 1))
            if frames > limits.max_frames:
                raise BadPicture("too_large", f"{frames:,} frames; the limit is {limits.max_frames:,}")
            profile = header.profile or image.info.get("icc_profile")
            if profile and len(profile) > limits.max_icc_bytes:
                raise BadPicture("too_large", f"a colour profile of {len(profile):,} bytes")
            colours: Image.Image | Pixels | None = _whole_jpeg(image, header)
            alpha = None
            if colours is None:
                image.load()
            turn = _orientation(image, notes)  # of a TIFF only after it was loaded, which turns it
            if colours is None:
                colours, alpha = _layers(image, header)
    except BadPicture:
        raise
    except Image.DecompressionBombError as error:  # sizes that only the decoder can read: TIFF, AVIF
        raise BadPicture("too_large", str(error)) from error
    except BROKEN as error:
        raise _bad(header, error) from error
    if header.bits == 16 and header.format == "PNG":
        mode += ";16"
    pixels, profile_name = _in_srgb(colours, profile, notes)
    if alpha is not None:
        pixels = _over(pixels, alpha, background)
    pixels = np.ascontiguousarray(_turned(pixels, turn))
    facts = PictureFacts(
        format=header.format,
        mode=mode,
        height=pixels.shape[0],
        width=pixels.shape[1],
        frames=frames,
        bytes=len(data),
        orientation=turn,
        icc=profile_name,
        transparent=alpha is not None,
        notes=tuple(dict.fromkeys(notes)),
    )
    return Picture(pixels, facts, None if alpha is None else np.ascontiguousarray(_turned(alpha, turn)))


def _bad(header: Header, error: BaseException) -> BadPicture:
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, UnidentifiedImageError):
        text = f"begins like {header.format}, but the decoder cannot read its header"
    reason = "truncated" if any(word in text.lower() for word in CUT_OFF) else "unreadable"
    return BadPicture(reason, text[:200])


def _whole_jpeg(image: Image.Image, header: Header) -> Pixels | None:
    """A JPEG in colour that ends with its end marker, by OpenCV: the decoder underneath is Pillow's, and its rows are not copied
    twice. None for all others; Pillow tells of rows that are missing, OpenCV paints them grey."""
    if header.format != "JPEG" or image.mode != "RGB" or not header.clean.rstrip(b"\0").endswith(b"\xff\xd9"):
        return None
    return cv2.imdecode(np.frombuffer(header.clean, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)


def _in_srgb(colours: Image.Image | Pixels, profile: bytes | None, notes: list[str]) -> tuple[Pixels, str | None]:
    if isinstance(colours, np.ndarray):
        if not profile:
            return colours, None
        colours = Image.fromarray(colours)
    converted, name = to_srgb(colours, profile, notes)
    return np.asarray(converted), name


def _layers(image: Image.Image, header: Header) -> tuple[Image.Image, np.ndarray | None]:
    """Colours in L, RGB or CMYK, and alpha uint8 `[H, W]` where some pixel is not opaque."""
    if header.bits == 16 and header.format == "PNG":
        return _deep_layers(header.clean)
    if image.mode.startswith("I;16"):  # 16-bit grey TIFF
        return Image.fromarray(_eight_bits(np.asarray(image).astype(np.uint16))), None
    if image.mode in ("I", "F"):
        raise BadPicture("unreadable", f"pixels of mode {image.mode} (more than 16 bits) have no known white")
    if image.mode in ("P", "PA", "1") or "transparency" in image.info:
        grey = image.mode in ("L", "1")
        image = image.convert("LA" if grey else "RGBA")
    if image.mode in ("RGBa", "La"):
        image = image.convert({"RGBa": "RGBA", "La": "LA"}[image.mode])
    alpha = None
    if image.mode in ("RGBA", "LA"):
        alpha = np.asarray(image.getchannel("A"))
        image = image.convert(image.mode[:-1])
    elif image.mode not in ("L", "RGB", "CMYK"):
        image = image.convert("RGB")
    return image, alpha if alpha is not None and alpha.min() < 255 else None


def _deep_layers(data: bytes) -> tuple[Image.Image, np.ndarray | None]:
    """16-bit PNG: Pillow drops the low byte, OpenCV keeps it, so that it can be rounded."""
    deep = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if deep is None or deep.dtype != np.uint16:
        raise BadPicture("unreadable", "16-bit PNG that the decoder cannot read")
    pixels = _eight_bits(deep)
    if pixels.ndim == 2:
        return Image.fromarray(pixels), None
    colours = Image.fromarray(np.ascontiguousarray(pixels[:, :, 2::-1]))
    alpha = pixels[:, :, 3] if pixels.shape[2] == 4 else None
    return colours, alpha if alpha is not None and alpha.min() < 255 else None


def _eight_bits(deep: np.ndarray) -> np.ndarray:
    """round(v / 257): 65535 becomes 255."""
    return ((deep.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _over(pixels: np.ndarray, alpha: np.ndarray, background: tuple[int, int, int]) -> Pixels:
    """round(a * colour + (1 - a) * background), in sRGB values as browsers and painters do."""
    a = alpha[:, :, None].astype(np.uint32)
    mixed = pixels * a + np.array(background, np.uint32) * (255 - a)
    return ((mixed + 127) // 255).astype(np.uint8)


def _orientation(image: Image.Image, notes: list[str]) -> int:
    try:
        turn = image.getexif().get(ORIENTATION, 1)
    except BROKEN:
        notes.append("exif_broken")
        return 1
    return turn if isinstance(turn, int) and 1 <= turn <= 8 else 1


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undo an EXIF orientation: 2 mirrored, 3 half turn, 4 flipped, 5..8 with the axes swapped."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels

"""Small good pictures of every format, drawn and encoded here: what the changed ones begin as. Knows encoders; changes nothing."""

from __future__ import annotations

import contextlib
import io
import json
import struct
import zlib
from collections.abc import Callable
from functools import cache
from random import Random

import cv2
import numpy as np
from PIL import Image, ImageCms, PngImagePlugin

SETTINGS = (
    "girl, hat\nNegative prompt: bad\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 64x64, Model: toy"
)
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description Iptc4xmpExt:DigitalSourceType='
    b'"http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"/></rdf:RDF></x:xmpmeta>'
)
JSON_TEXT = json.dumps({"prompt": {"3": {"class_type": "KSampler", "inputs": {"seed": 1, "steps": 20}}}})


def drawing(height: int, width: int, channels: int = 3, *, number: int = 0) -> np.ndarray:
    """A gradient with a block in it and some noise, uint8."""
    y, x = np.mgrid[:height, :width]
    planes = [(x * (3 + c) + y * (5 - c) + 40 * c + 17 * number) % 256 for c in range(channels)]
    pixels = np.stack(planes, -1).astype(np.uint8)
    pixels[height // 4 : height // 2, width // 4 : width // 2] = 200 - 20 * (number % 5)
    noise = np.random.default_rng(number).integers(0, 8, pixels.shape, dtype=np.uint8)
    return pixels ^ noise


def image(mode: str, height: int = 48, width: int = 40, *, number: int = 0) -> Image.Image:
    return Image.fromarray(drawing(height, width, 3, number=number)).convert(mode)


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


@cache
def profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@cache
def exif(orientation: int = 6) -> bytes:
    tags = Image.Exif()
    tags[0x0112], tags[0x0131], tags[0x010E] = orientation, "NovelAI", SETTINGS
    tags.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + SETTINGS.encode("utf-16-be")
    return tags.tobytes()


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def manifest() -> bytes:
    """Boxes as a C2PA manifest store has them."""
    said = box(b"jumd", b"c2cl" + bytes(12) + b"\x03c2pa.claim.v2\0") + box(b"cbor", b"\xa1qclaim_generatoreOther")
    action = box(
        b"json", b'{"digitalSourceType":"http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"}'
    )
    inner = box(b"jumb", said) + box(b"jumb", box(b"jumd", b"json" + bytes(12) + b"\x03c2pa.actions\0") + action)
    return box(b"jumb", box(b"jumd", b"c2pa" + bytes(12) + b"\x03c2pa\0") + box(b"jumb", inner))


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def hidden(colours: bool) -> Image.Image:
    """Letters in the lowest bits, down the columns."""
    text = SETTINGS.encode()
    letters = (b"stealth_rgbinfo" if colours else b"stealth_pnginfo") + struct.pack(">I", len(text) * 8) + text
    pixels = np.dstack([drawing(64, 40), np.full((64, 40), 255, np.uint8)])
    bits = np.unpackbits(np.frombuffer(letters, np.uint8))
    part = pixels[:, :, :3] if colours else pixels[:, :, 3:]
    flat = part.swapaxes(0, 1).reshape(-1).copy()
    flat[: len(bits)] = flat[: len(bits)] & 0xFE | bits[: len(flat)]
    part[:] = flat.reshape(part.shape[1], part.shape[0], part.shape[2]).swapaxes(0, 1)
    return Image.fromarray(pixels)


def _texts() -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", SETTINGS)
    info.add_text("prompt", JSON_TEXT, zip=True)
    info.add_itxt("Comment", JSON_TEXT, lang="en", zip=True)
    info.add_itxt("XML:com.adobe.xmp", XMP.decode())
    return info


def _png() -> list[bytes]:
    deep = cv2.imencode(".png", drawing(33, 29).astype(np.uint16) * 257)[1].tobytes()
    deep_alpha = cv2.imencode(".png", drawing(20, 20, 4).astype(np.uint16) * 257)[1].tobytes()
    plain = encoded(image("RGB"), "PNG")
    late = plain[:-12] + png_chunk(b"tEXt", b"parameters\0" + SETTINGS.encode()) + plain[-12:]
    c2pa = plain[:33] + png_chunk(b"caBX", manifest()) + png_chunk(b"gAMA", struct.pack(">I", 60000)) + plain[33:]
    return [
        plain, deep, deep_alpha, late, c2pa,
        encoded(image("RGBA"), "PNG", pnginfo=_texts(), icc_profile=profile(), exif=exif()),
        encoded(image("P"), "PNG", transparency=3), encoded(image("LA"), "PNG"), encoded(image("1", 9, 250), "PNG"),
        encoded(image("L", 1, 1), "PNG"), encoded(hidden(True), "PNG"), encoded(hidden(False), "PNG"),
        encoded(image("RGB", 200, 300, number=3), "PNG"),
    ]  # fmt: skip


def _apng() -> list[bytes]:
    frames = [image("RGBA", 30, 30, number=n) for n in range(3)]
    return [
        encoded(frames[0], "PNG", save_all=True, append_images=frames[1:], duration=40, disposal=1),
        encoded(frames[0], "PNG", save_all=True, append_images=frames[1:], default_image=True, pnginfo=_texts()),
    ]


def _jpeg() -> list[bytes]:
    plain = encoded(image("RGB", 64, 56), "JPEG")
    seen = b"\xff\xe1" + struct.pack(">H", len(XMP) + 31) + b"http://ns.adobe.com/xap/1.0/\0" + XMP
    store = manifest()
    half = len(store) // 2
    parts = [store[:half], store[:8] + store[half:]]
    boxes = b"".join(
        b"\xff\xeb" + struct.pack(">H2sHI", 10 + len(part), b"JP", 1, number) + part
        for number, part in enumerate(parts, 1)
    )
    return [
        plain, plain[:2] + seen + boxes + plain[2:], encoded(image("L"), "JPEG"), encoded(image("CMYK"), "JPEG"),
        encoded(image("RGB", 90, 70), "JPEG", progressive=True, quality=95, subsampling=0),
        encoded(image("RGB"), "JPEG", exif=exif(), icc_profile=profile(), comment=SETTINGS.encode()),
        encoded(image("RGB", 1, 1), "JPEG"), encoded(image("RGB", 300, 200, number=2), "JPEG", restart_marker_blocks=4),
    ]  # fmt: skip


def _webp() -> list[bytes]:
    frames = [image("RGBA", 30, 30, number=n) for n in range(3)]
    rich = {"exif": exif(), "xmp": XMP, "icc_profile": profile()}
    return [
        encoded(image("RGB"), "WEBP"), encoded(image("RGB"), "WEBP", lossless=True), encoded(hidden(False), "WEBP"),
        encoded(image("RGB", 70, 90), "WEBP", **rich), encoded(hidden(True), "WEBP", lossless=True, exact=True, **rich),
        encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], duration=50),
    ]  # fmt: skip


def _gif() -> list[bytes]:
    frames = [image("P", 30, 34, number=n) for n in range(3)]
    return [
        encoded(frames[0], "GIF"), encoded(frames[0], "GIF", transparency=1, comment=SETTINGS.encode()),
        encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=50, loop=0, disposal=2),
        encoded(image("P", 60, 60), "GIF", interlace=1),
    ]  # fmt: skip


def _other() -> list[bytes]:
    found = [
        encoded(image("RGB"), "BMP"), encoded(image("P"), "BMP"), encoded(image("1"), "BMP"),
        encoded(image("RGB"), "TIFF", compression="tiff_lzw"), encoded(image("RGBA"), "TIFF"),
        encoded(image("L"), "TIFF", compression="tiff_adobe_deflate"), encoded(image("1"), "TIFF", compression="group4"),
        encoded(image("CMYK"), "TIFF", icc_profile=profile()),
    ]  # fmt: skip
    with contextlib.suppress(KeyError, OSError, ValueError):  # a Pillow without AVIF
        found.append(encoded(image("RGBA"), "AVIF", exif=exif(), xmp=XMP, speed=10))
    return found


MAKERS: dict[str, Callable[[], list[bytes]]] = {
    "png": _png, "apng": _apng, "jpeg": _jpeg, "webp": _webp, "gif": _gif, "other": _other,
}  # fmt: skip
SUFFIX = {"png": "png", "apng": "png", "jpeg": "jpg", "webp": "webp", "gif": "gif", "other": "bmp"}


@cache
def seeds(kind: str) -> list[bytes]:
    return MAKERS[kind]()


def any_picture(draw: Random) -> bytes:
    return draw.choice(seeds(draw.choice(["png", "jpeg", "webp", "gif", "apng"])))

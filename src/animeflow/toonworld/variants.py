"""Bad and doubled versions of good pictures, for tests of cleaning: duplicates, watermarks, machine-made look. Knows pixels."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from animeflow.core.errors import ConfigError, DataError, did_you_mean
from animeflow.toonworld.draw import Drawing, draw
from animeflow.toonworld.world import Scene, generator

Pixels = NDArray[np.uint8]
NEAR_KINDS = ("jpeg", "resize", "crop", "color")


def exact_duplicate(pixels: Pixels) -> Pixels:
    """The same pixels in other memory."""
    return pixels.copy()


def near_duplicate(pixels: Pixels, kind: str, *, strength: float = 0.5) -> Pixels:
    """A repost of a picture: recompressed, resized, cropped a little or shifted in colour.

    Args:
        kind: one of `NEAR_KINDS`.
        strength: 0 (hardly different) to 1 (quality 30, half size, 6 % off every side, 28 of 255 warmer).
    """
    if kind not in NEAR_KINDS:
        raise ConfigError(
            f"unknown kind '{kind}'{did_you_mean(kind, NEAR_KINDS)}", do=f"one of: {', '.join(NEAR_KINDS)}"
        )
    h, w = pixels.shape[:2]
    if kind == "jpeg":
        return _jpeg(pixels, round(95 - 65 * strength))
    if kind == "resize":
        factor = 1 - 0.5 * strength
        return cv2.resize(pixels, (round(w * factor), round(h * factor)), interpolation=cv2.INTER_AREA)
    if kind == "crop":
        dy, dx = max(1, round(0.06 * strength * h)), max(1, round(0.06 * strength * w))
        return np.ascontiguousarray(pixels[dy:-dy, dx:-dx])
    warm = np.array([28, 6, -20], np.float32) * strength
    return np.clip(np.round(pixels.astype(np.float32) + warm), 0, 255).astype(np.uint8)


def _jpeg(pixels: Pixels, quality: int) -> Pixels:
    done, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise DataError(f"cannot encode pixels of shape {pixels.shape} as JPEG")
    return cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def watermarked(pixels: Pixels, text: str, *, opacity: float = 0.35) -> Pixels:
    """`text` tiled over the picture in white with a dark edge, slanted."""
    h, w = pixels.shape[:2]
    scale, diagonal = min(h, w) / 420, int(np.hypot(h, w)) + 1
    thickness = max(1, round(2 * scale))
    (tw, th), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_DUPLEX, scale, thickness)
    cover: Pixels = np.zeros((diagonal, diagonal), np.uint8)
    edge: Pixels = np.zeros_like(cover)
    for row, y in enumerate(range(th, diagonal, max(1, th * 4))):
        for x in range(-(row % 2) * tw // 2, diagonal, max(1, round(tw * 1.4))):
            cv2.putText(edge, text, (x, y), cv2.FONT_HERSHEY_DUPLEX, scale, 255, thickness + 2, cv2.LINE_AA)
            cv2.putText(cover, text, (x, y), cv2.FONT_HERSHEY_DUPLEX, scale, 255, thickness, cv2.LINE_AA)
    turn = cv2.getRotationMatrix2D((diagonal / 2, diagonal / 2), 25, 1.0)
    turn[:, 2] += ((w - diagonal) / 2, (h - diagonal) / 2)
    layers = (cv2.warpAffine(layer, turn, (w, h), flags=cv2.INTER_LINEAR) for layer in (edge, cover))
    dark, white = (layer[..., None].astype(np.float32) / 255 * opacity for layer in layers)
    marked = pixels.astype(np.float32) * (1 - dark * 0.6)
    return np.round(marked * (1 - white) + 255 * white).astype(np.uint8)


def generator_like(pixels: Pixels, *, seed: int = 0) -> tuple[Pixels, dict[str, str]]:
    """A picture as a weak image generator would make it, and the metadata such programs leave in their PNG.

    Smeared texture (an edge-preserving smudge along a random flow), patches that do not belong, extra fingers.
    """
    rng, (h, w) = generator("generator_like", seed), pixels.shape[:2]
    flow = cv2.resize(rng.normal(0, 1, (5, 5, 2)).astype(np.float32), (w, h), interpolation=cv2.INTER_CUBIC)
    yy, xx = np.mgrid[0:h, 0:w].astype(np.float32)
    reach = 0.012 * min(h, w)
    bent = cv2.remap(
        pixels, xx + reach * flow[..., 0], yy + reach * flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )
    smeared = cv2.bilateralFilter(bent, 7, 60, 5)
    for _ in range(6):
        _extra_finger(smeared, rng)
    parameters = (
        "1girl, masterpiece, best quality\nNegative prompt: bad hands\n"
        f"Steps: 28, Sampler: Euler a, CFG scale: 7, Seed: {seed}, Size: {w}x{h}, Model: drawn_by_toonworld"
    )
    return smeared, {"parameters": parameters}


def _extra_finger(pixels: Pixels, rng: np.random.Generator) -> None:
    """A stray skin-coloured stroke, in place."""
    h, w = pixels.shape[:2]
    x, y, angle = rng.uniform(0.2, 0.8) * w, rng.uniform(0.4, 0.9) * h, rng.uniform(0, np.pi)
    length, thick = 0.05 * min(h, w), max(2, round(0.018 * min(h, w)))
    end = (round(x + length * np.cos(angle)), round(y + length * np.sin(angle)))
    light = min(1.0, 0.35 + float(pixels.mean()) / 200)
    for color, width in (((150, 96, 88), thick + 2), ((252, 222, 204), thick)):
        cv2.line(pixels, (round(x), round(y)), end, [c * light for c in color], width, cv2.LINE_AA)


def embed_text(png: bytes, metadata: Mapping[str, str]) -> bytes:
    """PNG bytes with one `iTXt` chunk per entry before the pixels (PNG 1.2, 4.2.3.3)."""
    if png[:8] != b"\x89PNG\r\n\x1a\n":
        raise DataError("not a PNG file")
    chunks = b""
    for keyword, text in metadata.items():
        body = b"iTXt" + keyword.encode("latin-1") + b"\0\0\0\0\0" + text.encode()
        chunks += struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    end_of_header = 8 + 12 + 13
    return png[:end_of_header] + chunks + png[end_of_header:]


@dataclass(frozen=True)
class EditPair:
    """Two drawings of the same scene but for one attribute, with both scenes."""

    before: Drawing
    after: Drawing
    scene_before: Scene
    scene_after: Scene


def edit_pair(
    scene: Scene,
    attribute: str,
    value: str,
    *,
    height: int = 128,
    width: int = 128,
    figure: int = 0,
    layers: bool = False,
) -> EditPair:
    """Draw a scene and the same scene with one attribute changed; everything else stays where it is."""
    changed = scene.replace(attribute, value, figure=figure)
    before, after = (draw(one, height, width, layers=layers) for one in (scene, changed))
    return EditPair(before, after, scene, changed)

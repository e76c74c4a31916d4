"""Other ways to decode and shrink a picture, for comparison with ours. Knows OpenCV and Pillow; nothing trains through it."""

from __future__ import annotations

import io

import cv2
import numpy as np
from PIL import Image

from .picture import Pixels


def encode_jpeg(pixels: Pixels, *, quality: int = 92) -> bytes:
    """JPEG of uint8 RGB `[H, W, 3]`, to measure reading with; pictures of a data set are never written so."""
    done, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f"a picture of {list(pixels.shape)} could not be written as JPEG")
    return data.tobytes()


def decode_opencv(data: bytes) -> Pixels:
    """uint8 RGB `[H, W, 3]`; no profile, no alpha, no check."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    if pixels is None:
        raise ValueError("OpenCV cannot decode this picture")
    return pixels.astype(np.uint8, copy=False)


def shrink_area(pixels: Pixels, height: int, width: int) -> Pixels:
    """OpenCV's INTER_AREA: every pixel of the source counts by the area it covers."""
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)


def pillow_lanczos(data: bytes, height: int, width: int) -> Pixels:
    """Decoded and shrunk as most trainers do it."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS))

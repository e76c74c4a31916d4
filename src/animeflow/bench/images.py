"""Pictures of four megapixels from their bytes to one megapixel: ours and others', by turns in one run. Knows pictures; no model.

INTER_AREA is what shards are made with: it averages what it drops and rings nowhere. The others show what that costs.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from ..core import seed
from ..image import ways
from ..image.bucket import Bucket
from ..image.decode import decode
from ..image.encode import encode_png
from ..image.picture import Pixels
from ..image.resize import fit
from ..toonworld.draw import draw
from ..toonworld.world import sample_scene
from .rounds import by_turns, median, ratio

log = logging.getLogger(__name__)

Way = Callable[[bytes], Pixels]
BASE, DECODING = "cv2 + INTER_AREA", "cv2, decoding alone"
GRAIN = 2.0  # standard deviation of the noise over the drawn pictures, of 255: flat colours alone would be too easy to decode


def run(config: Mapping[str, Any], *, against: str | None = None, rounds: int = 5) -> dict[str, Any]:
    """2400x1750 to 1152x840: INTER_AREA has a fast path of its own for whole factors, which pictures seldom have."""
    return measure(rounds=rounds)


def measure(
    *, count: int = 3, source: tuple[int, int] = (2400, 1750), target: tuple[int, int] = (1152, 840), rounds: int = 5
) -> dict[str, Any]:
    """Every way decodes and shrinks `count` drawn pictures (height, width) as JPEG and as PNG; CPU seconds of the process count."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        pictures = [drawn(number, *source) for number in range(count)]
        load = os.getloadavg()
        log.info("images: %d pictures of %dx%d, %d rounds", count, *source, rounds)
        kinds = {
            "jpeg": _measure([ways.encode_jpeg(pixels) for pixels in pictures], *target, rounds=rounds),
            "png": _measure([encode_png(pixels) for pixels in pictures], *target, rounds=rounds),
        }
    finally:
        torch.set_num_threads(threads)
    return {
        "bench": "images",
        "settings": {
            "pictures": count, "source": list(source), "target": list(target), "jpeg_quality": 92, "rounds": rounds,
            "clock": "CPU seconds of the process",
        },
        "load_average": [round(value, 2) for value in load],
        "kinds": kinds,
    }  # fmt: skip


def _measure(files: Sequence[bytes], height: int, width: int, *, rounds: int) -> dict[str, Any]:
    found = _ways(height, width)
    rates = by_turns({name: partial(_all, way, files) for name, way in found.items()}, rounds=rounds)
    wanted = [found[BASE](data) for data in files]
    whole = {name: way for name, way in found.items() if name != "cv2, decoding alone"}
    psnr = {
        name: np.mean([_psnr(way(d), w) for d, w in zip(files, wanted, strict=True)]) for name, way in whole.items()
    }
    return {
        "bytes_per_picture": sum(map(len, files)) // len(files),
        "ways": {
            name: {
                "images_per_s": round(median(rates, name), 2),
                "times_base": round(ratio(rates, name, BASE), 3),
                "psnr_to_base": round(psnr[name], 2)
                if math.isfinite(psnr.get(name, math.inf))
                else None,  # None: equal
                "rounds": [round(value, 2) for value in rates[name]],
            }
            for name in found
        },
    }


def _all(way: Way, files: Sequence[bytes]) -> int:
    for data in files:
        way(data)
    return len(files)


def _ways(height: int, width: int) -> dict[str, Way]:
    bucket = Bucket(height, width)
    return {
        BASE: lambda data: ways.shrink_area(ways.decode_opencv(data), height, width),
        "ours": lambda data: fit(decode(data).pixels, bucket)[0],  # with profiles, alpha, orientation and limits
        "cv2 + torch bilinear, antialiased": lambda data: _bilinear(ways.decode_opencv(data), height, width),
        "Pillow + LANCZOS": lambda data: ways.pillow_lanczos(data, height, width),
        DECODING: ways.decode_opencv,
    }


def _bilinear(pixels: Pixels, height: int, width: int) -> Pixels:
    x_1CHW = torch.from_numpy(pixels).permute(2, 0, 1)[
        None
    ]  # channels last in memory, where torch has kernels for uint8
    shrunk = F.interpolate(x_1CHW, size=(height, width), mode="bilinear", antialias=True)
    return shrunk[0].permute(1, 2, 0).contiguous().numpy()


def _psnr(found: Pixels, wanted: Pixels) -> float:
    error = float(np.square(found.astype(np.float64) - wanted).mean())
    return 10 * math.log10(255**2 / error) if error else math.inf


def drawn(number: int, height: int, width: int) -> Pixels:
    """Drawn figures with a little grain."""
    pixels = draw(sample_scene(0, number), height, width, layers=False).pixels
    noise = torch.randn(pixels.shape, generator=seed.generator("bench", "images", number)).mul_(GRAIN).round_()
    return (torch.from_numpy(pixels) + noise).clamp_(0, 255).to(torch.uint8).numpy()

"""How much a codec loses: PSNR and SSIM of pictures that went through it and back. Knows pixels and the codec protocol;
knows no family.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ..model.protocol import Codec


@dataclass(frozen=True)
class CodecReport:
    """Means over pictures, and the worst of them. `psnr` is the mean of the pictures' own figures, in dB."""

    pictures: int
    psnr: float
    psnr_worst: float
    ssim: float
    fingerprint: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def round_trip(codec: Codec, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 RGB `[H, W, 3]` -> latents -> uint8 of the same size. Sides must be multiples of the codec's stride."""
    x_13HW = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 127.5 - 1
    decoded = codec.decode(codec.encode(x_13HW))[0].permute(1, 2, 0).cpu()
    return ((decoded + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()


def measure_codec(codec: Codec, pictures: Sequence[NDArray[np.uint8]]) -> CodecReport:
    """Round trips of `pictures`, of any sizes that the codec takes."""
    if not pictures:
        raise ValueError("no pictures to measure a codec on")
    back = [round_trip(codec, picture) for picture in pictures]
    peaks = [psnr(a, b) for a, b in zip(pictures, back)]
    likeness = [ssim(a, b) for a, b in zip(pictures, back)]
    return CodecReport(len(peaks), float(np.mean(peaks)), min(peaks), float(np.mean(likeness)), codec.fingerprint)


def psnr(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """10 log10(255^2 / mean squared error), in dB; infinite for equal pictures."""
    error = float(np.square(a.astype(np.float64) - b.astype(np.float64)).mean())
    return math.inf if error == 0 else 10 * math.log10(255.0**2 / error)


def ssim(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Mean structural similarity of the luma, Gaussian window of 11 pixels, sigma 1.5.

    Wang et al., IEEE TIP 13 (2004), eq. 13.
    """
    x, y = _luma(a), _luma(b)
    mean_x, mean_y = _window(x), _window(y)
    var_x, var_y = _window(x * x) - mean_x**2, _window(y * y) - mean_y**2
    both = _window(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    top = (2 * mean_x * mean_y + c1) * (2 * both + c2)
    return float((top / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))).mean())


def _luma(picture: NDArray[np.uint8]) -> Tensor:
    weights = np.array([0.2126, 0.7152, 0.0722])
    return torch.from_numpy(picture.astype(np.float64) @ weights)[None, None]


def _window(x: Tensor) -> Tensor:
    at = torch.arange(11, dtype=x.dtype) - 5
    kernel = torch.exp(-(at**2) / (2 * 1.5**2))
    kernel = kernel / kernel.sum()
    return F.conv2d(F.conv2d(x, kernel.view(1, 1, 11, 1)), kernel.view(1, 1, 1, 11))

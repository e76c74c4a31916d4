"""The codec that needs no download: a small `AutoencoderTiny` trained here on drawn pictures. Knows pixels; knows no family.

A fixed recipe, counted in steps: the encoder starts at the pictures' principal directions and the decoder at mean colours, both
learn by Muon, then the latents are settled (zero mean, unit variance), the encoder rests, and the decoder learns to the end.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import AutoencoderTiny
from numpy.typing import NDArray
from torch import Tensor, nn

from ..core.errors import ConfigError
from ..core.seed import generator, key
from .codec import TinyCodec
from .toon_start import settle_latents, start_at_mean_colours, start_at_principal_directions

log = logging.getLogger(__name__)

CROP = 64  # pixels: a training sample, four times cheaper than a 128-pixel picture
BATCH = 2  # many small steps learn more in the same time than few large ones
WARMUP, SETTLE = 0.05, 0.6  # shares of all steps
LEARNING_RATE = 3e-3
ENCODER_SHARE = 0.1  # of the learning rate: the encoder starts near its optimum
HELD_OUT = 16  # pictures kept aside to measure


@dataclass(frozen=True)
class ToonRecord:
    """What a training run gave. `psnr` is the mean over held-out pictures, in dB of 8-bit pixels after a round trip."""

    psnr: float
    steps: int
    seconds: float
    pictures: int
    clamped: float  # share of held-out latents beyond 3, where the decoder's clamp bends


def train_toon_codec(
    pictures: NDArray[np.uint8] | Iterable[NDArray[np.uint8]],
    *,
    steps: int = 3000,
    seed: int = 0,
    threads: int | None = None,
) -> tuple[TinyCodec, ToonRecord]:
    """Train on `[N, H, W, 3]` RGB pictures of one size; the last `HELD_OUT` of them only measure.

    The result is a function of pictures, steps and seed (and of the machine's arithmetic), never of the clock.

    Raises:
        ConfigError: too few pictures, or pictures smaller than a crop or no multiple of 8.
    """
    began = time.perf_counter()
    pixels = torch.from_numpy(np.stack(list(pictures))).permute(0, 3, 1, 2).contiguous()
    _check(pixels)
    seen, held = pixels[:-HELD_OUT], pixels[-HELD_OUT:]
    net = toon_net(seed=seed)
    with _threads(threads):
        sample = seen[:: math.ceil(len(seen) / 200)].float() / 255
        start_at_principal_directions(net, sample)
        start_at_mean_colours(net, sample, generator(seed, "toon codec", "decoder"))
        _learn(net, seen, sample, steps, seed)
        codec = TinyCodec(net.to(memory_format=torch.contiguous_format))
        psnr = round_trip_psnr(codec, held)
        clamped = float((codec.encode(held.float() / 127.5 - 1).abs() > 3).float().mean())
    record = ToonRecord(psnr, steps, time.perf_counter() - began, len(seen), clamped)
    log.info("toon codec: %.2f dB after %d steps in %.0f s", record.psnr, record.steps, record.seconds)
    return codec, record


def round_trip_psnr(codec: TinyCodec, pixels: Tensor) -> float:
    """Mean over pictures `[N, 3, H, W]` (uint8) of PSNR = -10 log10(mean squared error / 255^2) after rounding to 8 bits."""
    decoded = torch.cat([codec.decode(codec.encode(some.float() / 127.5 - 1)) for some in pixels.split(8)])
    error = ((decoded + 1) * 127.5).round() - pixels.float()
    return float((-10 * (error.square().flatten(1).mean(1) / 255**2).log10()).mean())


def untrained_codec(*, seed: int = 0) -> TinyCodec:
    """The architecture with random weights: right shapes and wrong pictures, for tests and plans."""
    return TinyCodec(toon_net(seed=seed))


def toon_net(*, seed: int) -> AutoencoderTiny:
    """16 latent channels, one per 8x8 pixels; a linear encoder and a decoder that has its non-linear blocks below full size."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key(seed, "toon codec"))
        return AutoencoderTiny(
            latent_channels=16,
            encoder_block_out_channels=(32, 32, 32, 32),
            decoder_block_out_channels=(32, 32, 32, 32),
            num_encoder_blocks=(0, 0, 0, 0),
            num_decoder_blocks=(1, 1, 1, 0),
            act_fn="silu",
        )


def _learn(net: AutoencoderTiny, seen: Tensor, sample: Tensor, steps: int, seed: int) -> None:
    net.to(memory_format=torch.channels_last)
    momenta = {parameter: torch.zeros_like(parameter) for parameter in net.parameters()}
    squares = {parameter: torch.zeros_like(parameter) for parameter in net.parameters() if parameter.ndim < 4}
    draw = generator(seed, "toon codec", "crops")
    settle_at = round(SETTLE * steps)
    for step in range(steps):
        if step == settle_at:
            settle_latents(net, sample)
            net.encoder.requires_grad_(False)
        pixels = _crops(seen, draw)
        loss = (net.decoder(net.encoder(pixels)) - pixels).square().mean()
        loss.backward()
        rate = LEARNING_RATE * _pace(step / steps)
        _muon(net.decoder, momenta, squares, rate, step)
        if step < settle_at:
            _muon(net.encoder, momenta, squares, ENCODER_SHARE * rate, step)
        net.zero_grad()


def _pace(progress: float) -> float:
    """Linear warm-up, then half a cosine down to zero."""
    if progress < WARMUP:
        return progress / WARMUP
    return 0.5 + 0.5 * math.cos(math.pi * (progress - WARMUP) / (1 - WARMUP))


def _crops(seen: Tensor, draw: torch.Generator) -> Tensor:
    """`[BATCH, 3, CROP, CROP]` in [-1, 1] at random places."""
    places = [(torch.rand(3, generator=draw).double() * 0.999999).tolist() for _ in range(BATCH)]
    height, width = seen.shape[-2:]
    crops = []
    for picture, down, right in places:
        top, left = int(down * (height - CROP + 1)), int(right * (width - CROP + 1))
        crops.append(seen[int(picture * len(seen)), :, top : top + CROP, left : left + CROP])
    return (torch.stack(crops).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def _muon(
    half: nn.Module, momenta: dict[Tensor, Tensor], squares: dict[Tensor, Tensor], rate: float, step: int
) -> None:
    """One step of Muon (Jordan et al. 2024) for convolutions as matrices `[out, in * 9]`, of Adam for biases."""
    for parameter in half.parameters():
        gradient, momentum = parameter.grad, momenta[parameter]
        assert gradient is not None
        if parameter.ndim < 4:
            momentum.lerp_(gradient, 0.1)
            square = squares[parameter].lerp_(gradient.square(), 0.01)
            size = (square / (1 - 0.99 ** (step + 1))).sqrt() + 1e-8
            parameter.sub_(rate * momentum / (1 - 0.9 ** (step + 1)) / size)
            continue
        momentum.lerp_(gradient, 0.05)
        matrix = gradient.lerp(momentum, 0.95).flatten(1)
        # 0.2 sqrt(larger side) gives the update Adam's typical size (arXiv 2502.16982)
        parameter.sub_(rate * 0.2 * max(matrix.shape) ** 0.5 * _orthogonal(matrix).view(parameter.shape))


def _orthogonal(matrix: Tensor) -> Tensor:
    """The nearest matrix with all singular values about 1, by five Newton-Schulz steps with Muon's coefficients."""
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    wide = wide / (wide.norm() + 1e-7)
    for _ in range(5):
        gram = wide @ wide.T
        wide = 3.4445 * wide + (-4.7750 * gram + 2.0315 * gram @ gram) @ wide
    return wide if wide.shape == matrix.shape else wide.T


def _check(pixels: Tensor) -> None:
    height, width = pixels.shape[-2:]
    if len(pixels) < 2 * HELD_OUT or min(height, width) < CROP or height % 8 or width % 8:
        raise ConfigError(
            f"{len(pixels)} pictures of {height}x{width} cannot train a codec",
            do=f"give at least {2 * HELD_OUT} pictures with sides that are multiples of 8 and at least {CROP}",
        )


@contextlib.contextmanager
def _threads(number: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)

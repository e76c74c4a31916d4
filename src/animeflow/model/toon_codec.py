"""The codec that needs no download: a small `AutoencoderTiny` trained here on drawn pictures. Knows pixels; knows no family."""

from __future__ import annotations

import torch
from diffusers import AutoencoderTiny

from .codec import TinyCodec

CHANNELS = 16


def untrained_codec(*, seed: int = 0) -> TinyCodec:
    """The architecture with random weights: right shapes and wrong pictures, for tests and plans."""
    return TinyCodec(toon_net(seed=seed))


def toon_net(*, seed: int) -> AutoencoderTiny:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoencoderTiny(
            latent_channels=CHANNELS,
            encoder_block_out_channels=(32, 32, 32, 32),
            decoder_block_out_channels=(32, 32, 32, 32),
            num_encoder_blocks=(0, 0, 0, 0),
            num_decoder_blocks=(1, 1, 1, 0),
        )

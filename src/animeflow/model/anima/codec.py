"""Qwen-Image's autoencoder for pictures: a causal video codec that is given one frame. Knows diffusers' network; knows no family.

Before the first frame a causal convolution sees two frames of zeros, so for a picture only the last slice of its kernel counts: the
convolution is a 2-D one with a third of the arithmetic. `encode` and `decode` do that; the network itself stays as it is in files.
"""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLQwenImage
from diffusers.models.autoencoders.autoencoder_kl_qwenimage import QwenImageCausalConv3d
from torch import Tensor
from torch.nn import functional as F

from ...core.errors import ConfigError, DataError
from ...core.files import address, read_json
from ..codec import KLCodec, TinyCodec, check_pixels, load_codec
from ..pretrained import load_whole
from ..state import check_state
from ..weights import hash_state

PIXELS_AT_ONCE = 2**20


class QwenCodec:
    """diffusers' `AutoencoderKLQwenImage`, normalised channel by channel: z = (mode - mean) / std, 16 constants each."""

    def __init__(self, net: AutoencoderKLQwenImage) -> None:
        self.net = pictures_only(net.eval().requires_grad_(False))
        config = net.config
        self.channels = int(config.z_dim)
        self.stride = 2 ** (len(config.dim_mult) - 1)
        self.mean, self.std = torch.tensor(config.latents_mean), torch.tensor(config.latents_std)
        if len(self.mean) != self.channels or len(self.std) != self.channels:
            raise DataError(
                f"{self.channels} latent channels with {len(self.mean)} means and {len(self.std)} standard deviations",
                where="latents_mean, latents_std in the codec's config.json",
            )
        self.num_parameters = sum(parameter.numel() for parameter in net.parameters())
        self.fingerprint = address(
            kind="qwen_image",
            weights=hash_state(net.state_dict()),
            mean=list(config.latents_mean),
            std=list(config.latents_std),
        )

    @classmethod
    def load(cls, folder: str | Path) -> QwenCodec:
        """From a diffusers folder."""
        return cls(load_whole(AutoencoderKLQwenImage, folder))

    @classmethod
    def from_state(cls, state: dict[str, Tensor], *, where: str | None = None) -> QwenCodec:
        """From weights under diffusers' names. Base width and blocks per level are read from them, and the constants are the
        released ones, which no single file holds."""
        blocks = {name.split(".")[4] for name in state if name.startswith("decoder.up_blocks.0.resnets.")}
        net = qwen_net(base_dim=state["encoder.conv_in.weight"].shape[0], num_res_blocks=max(1, len(blocks) - 1))
        what = "these are not the layers of Qwen-Image's autoencoder"
        check_state(net.state_dict(), state, what=what, where=where, do="give qwen_image_vae.safetensors")
        net.load_state_dict({name: tensor.float() for name, tensor in state.items()})
        return cls(net)

    def save(self, folder: str | Path) -> None:
        self.net.save_pretrained(folder)

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """`[B, 3, H, W]` in [-1, 1] -> `[B, C, H/stride, W/stride]`, the mode of the posterior, float32."""
        check_pixels(pixels, self.stride)
        modes = []
        for some in pixels.to(next(self.net.parameters())).split(_at_once(pixels)):
            # Not `net.encode`: that keeps a copy of every layer's input for a next frame, which a picture has not.
            moments = self.net.quant_conv(self.net.encoder(some.unsqueeze(2)))[:, :, 0]
            modes.append(moments.float().chunk(2, dim=1)[0])  # mean and log variance; the mode is the mean
        mode = torch.cat(modes)
        return (mode - self._row(self.mean, mode)) / self._row(self.std, mode)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """`[B, C, h, w]` -> `[B, 3, H, W]` in [-1, 1], float32."""
        raw = latents.float() * self._row(self.std, latents) + self._row(self.mean, latents)
        pictures = [
            self.net.decoder(self.net.post_quant_conv(some.unsqueeze(2)))[:, :, 0].float()
            for some in raw.to(next(self.net.parameters())).split(_at_once(latents, stride=self.stride))
        ]
        return torch.cat(pictures).clamp(-1, 1)

    @property
    def device(self) -> torch.device:
        return next(self.net.parameters()).device

    def to(self, device: torch.device | str) -> QwenCodec:
        self.net.to(device)
        return self

    def _row(self, values: Tensor, like: Tensor) -> Tensor:
        return values.to(like.device)[None, :, None, None]


def _at_once(batch: Tensor, *, stride: int = 1) -> int:
    """How many of `batch` go through together: about a megapixel, of which the decoder's activations take several GiB."""
    return max(1, PIXELS_AT_ONCE // (batch.shape[-2] * batch.shape[-1] * stride * stride))


def qwen_net(*, base_dim: int = 96, **options: Any) -> AutoencoderKLQwenImage:
    """The network with random weights; the released one has a base width of 96. Nothing is drawn from the global generator."""
    with torch.random.fork_rng(devices=[]):
        return AutoencoderKLQwenImage(base_dim=base_dim, **options)


def untrained_qwen_codec(*, seed: int = 0, base_dim: int = 8) -> QwenCodec:
    """A small one with random weights: right shapes and wrong pictures, for tests and plans."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return QwenCodec(AutoencoderKLQwenImage(base_dim=base_dim, num_res_blocks=1))


def load_anima_codec(path: str | Path) -> QwenCodec | KLCodec | TinyCodec:
    """The codec in a folder (Qwen-Image's, or the small one that `animeflow codec` trains) or in a single file.

    Raises:
        ConfigError: nothing is there. DataError: it is no codec that we know.
    """
    path = Path(path)
    if path.is_file():
        from .load import stored_codec_state

        return QwenCodec.from_state(stored_codec_state(path), where=str(path))
    if not path.is_dir():
        raise ConfigError(
            f"no codec at '{path}'",
            where="model.codec",
            do="give the `vae` folder of a diffusers Anima pipeline, or qwen_image_vae.safetensors",
        )
    config = path / "config.json"
    if config.is_file() and read_json(config).get("_class_name") == "AutoencoderKLQwenImage":
        return QwenCodec.load(path)
    return load_codec(path)


def pictures_only(net: AutoencoderKLQwenImage) -> AutoencoderKLQwenImage:
    """Let the causal convolutions of `net` take a single frame as a picture. Longer inputs go on as before."""
    for module in net.modules():
        if isinstance(module, QwenImageCausalConv3d) and module.kernel_size[0] == 3 and module.stride[0] == 1:
            module.forward = types.MethodType(_picture_forward, module)
    return net


def _picture_forward(conv: QwenImageCausalConv3d, x: Tensor, cache_x: Tensor | None = None) -> Tensor:
    """`[B, C, 1, H, W]` through the last slice of the kernel, which is all that meets a frame; else diffusers' own forward."""
    if cache_x is not None or x.shape[2] != 1:
        return type(conv).forward(conv, x, cache_x)
    picture = F.pad(x[:, :, 0], conv._padding[:4])
    return F.conv2d(picture, conv.weight[:, :, -1], conv.bias, stride=conv.stride[1:]).unsqueeze(2)

"""Pixels to latents and back: the KL autoencoder of SD3 and the tiny distilled one. Knows diffusers' networks; knows no family.

Both give latents in model space: what the backbone sees, zero mean and unit scale as far as the codec is normalised.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from safetensors.torch import load_file
from torch import Tensor

from ..core.errors import ConfigError, DataError
from ..core.files import address, read_json, write_json
from .names import listed
from .pretrained import load_whole
from .state import check_state
from .weights import hash_state


class KLCodec:
    """diffusers' `AutoencoderKL`, normalised as its config says: z = (mode - shift) * scale; SD3: (mode - 0.0609) * 1.5305."""

    def __init__(self, net: AutoencoderKL) -> None:
        self.net = net.eval().requires_grad_(False)
        self.scale = float(net.config.scaling_factor)
        self.shift = float(net.config.shift_factor or 0.0)
        self.channels = int(net.config.latent_channels)
        self.stride = 2 ** (len(net.config.block_out_channels) - 1)
        self.num_parameters = sum(parameter.numel() for parameter in net.parameters())
        self.fingerprint = address(kind="kl", weights=hash_state(net.state_dict()), scale=self.scale, shift=self.shift)

    @classmethod
    def load(cls, folder: str | Path) -> KLCodec:
        return cls(load_whole(AutoencoderKL, folder))

    def save(self, folder: str | Path) -> None:
        self.net.save_pretrained(folder)

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """`[B, 3, H, W]` in [-1, 1] -> `[B, C, H/stride, W/stride]`, the mode of the posterior, float32."""
        check_pixels(pixels, self.stride)
        mode = self.net.encode(pixels.to(_place(self.net))).latent_dist.mode()
        return (mode.float() - self.shift) * self.scale

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """`[B, C, h, w]` -> `[B, 3, H, W]` in [-1, 1], float32."""
        raw = (latents.float() / self.scale + self.shift).to(_place(self.net))
        return self.net.decode(raw).sample.float().clamp(-1, 1)

    @property
    def device(self) -> torch.device:
        return next(self.net.parameters()).device

    def to(self, device: torch.device | str) -> KLCodec:
        self.net.to(device)
        return self


class TinyCodec:
    """diffusers' `AutoencoderTiny` (TAESD's architecture). Its latents are in model space already: no scale, no shift."""

    def __init__(self, net: AutoencoderTiny) -> None:
        self.net = net.eval().requires_grad_(False)
        self.channels = int(net.config.latent_channels)
        self.stride = 2 ** (len(net.config.num_encoder_blocks) - 1)
        self.num_parameters = sum(parameter.numel() for parameter in net.parameters())
        self.fingerprint = address(kind="tiny", weights=hash_state(net.state_dict()), config=_structure(net.config))

    @classmethod
    def load(cls, folder: str | Path) -> TinyCodec:
        """From a diffusers folder, or one with TAESD's two files, `*encoder.safetensors` and `*decoder.safetensors`."""
        folder = Path(folder)
        if (folder / "config.json").is_file():
            return cls(load_whole(AutoencoderTiny, folder))
        encoder, decoder = (sorted(folder.glob(f"*{half}.safetensors")) for half in ("encoder", "decoder"))
        if len(encoder) != 1 or len(decoder) != 1:
            raise DataError(
                f"found {len(encoder)} encoder and {len(decoder)} decoder files, need one of each",
                where=str(folder),
                do="give a diffusers folder (config.json) or TAESD's *encoder.safetensors and *decoder.safetensors",
            )
        return cls.native(load_file(encoder[0]), load_file(decoder[0]), where=str(folder))

    @classmethod
    def native(
        cls, encoder: Mapping[str, Tensor], decoder: Mapping[str, Tensor], *, where: str | None = None
    ) -> TinyCodec:
        """From TAESD's names: encoder `K` -> `encoder.layers.K`, decoder `N` -> `decoder.layers.(N-1)` (its clamp is layer 0)."""
        do = "taesd3 and taef1 are known to load; taef2 has another structure"
        state = {f"encoder.layers.{name}": tensor for name, tensor in encoder.items()}
        for name, tensor in decoder.items():
            number, _, rest = name.partition(".")
            layer = str(int(number) - 1) if number.isdecimal() else number
            state[f"decoder.layers.{layer}.{rest}"] = tensor
        numbered = [name for name in encoder if name.endswith(".bias") and name.split(".")[0].isdecimal()]
        if not numbered:
            raise DataError(
                f"these are not the layers of TAESD: the encoder has {listed(sorted(encoder))}", where=where, do=do
            )
        channels = max(numbered, key=lambda name: int(name.split(".")[0]))
        net = AutoencoderTiny(latent_channels=encoder[channels].shape[0])
        check_state(net.state_dict(), state, what="these are not the layers of TAESD", where=where, do=do)
        net.load_state_dict(state)
        return cls(net)

    def save(self, folder: str | Path) -> None:
        self.net.save_pretrained(folder)
        drop_derived_settings(folder)

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """`[B, 3, H, W]` in [-1, 1] -> `[B, C, H/stride, W/stride]`, float32."""
        check_pixels(pixels, self.stride)
        return self.net.encode(pixels.to(_place(self.net))).latents.float()

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """`[B, C, h, w]` -> `[B, 3, H, W]` in [-1, 1], float32."""
        return self.net.decode(latents.to(_place(self.net))).sample.float().clamp(-1, 1)

    @property
    def device(self) -> torch.device:
        return next(self.net.parameters()).device

    def to(self, device: torch.device | str) -> TinyCodec:
        self.net.to(device)
        return self


def drop_derived_settings(folder: str | Path) -> None:
    """Take out of an AutoencoderTiny's config.json what diffusers writes there and then complains about when it reads it."""
    config = read_json(Path(folder) / "config.json")
    if config["_class_name"] == "AutoencoderTiny":
        config.pop("block_out_channels", None)
        write_json(Path(folder) / "config.json", config)


def load_codec(folder: str | Path) -> KLCodec | TinyCodec:
    """The codec in `folder`: what its config.json names, or TAESD's two native files.

    Raises:
        ConfigError: the folder does not exist.
        DataError: it holds no codec that we know.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ConfigError(
            f"no codec folder '{folder}'", where="model.codec", do="give the `vae` folder of a diffusers pipeline"
        )
    if not (folder / "config.json").is_file():
        return TinyCodec.load(folder)
    name = read_json(folder / "config.json").get("_class_name")
    kinds: dict[str, Any] = {"AutoencoderKL": KLCodec, "AutoencoderTiny": TinyCodec}
    if name not in kinds:
        raise DataError(
            f"config.json names the class {name!r}", where=str(folder), do=f"known codecs: {', '.join(kinds)}"
        )
    return kinds[name].load(folder)


def check_pixels(pixels: Tensor, stride: int) -> None:
    """Raises ConfigError for pixels that a codec with this stride cannot take."""
    height, width = pixels.shape[-2:]
    if pixels.ndim != 4 or pixels.shape[1] != 3 or height % stride or width % stride:
        raise ConfigError(
            f"pixels of shape {tuple(pixels.shape)} cannot be encoded",
            do=f"give [B, 3, H, W] with sides that are multiples of {stride}",
        )


def _place(net: torch.nn.Module) -> Tensor:
    """A tensor with the device and dtype of the network, for `x.to(...)`."""
    return next(net.parameters())


def _structure(config: Mapping[str, Any]) -> dict[str, Any]:
    """What changes the function of an `AutoencoderTiny` besides its weights."""
    names = ("act_fn", "upsample_fn", "num_encoder_blocks", "num_decoder_blocks")
    return {name: config[name] for name in names}

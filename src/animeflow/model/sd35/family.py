"""The SD3.5 line: one object that builds backbone, codec and text tower. Knows where weights may lie; knows no data set."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import SD3Transformer2DModel
from torch import Tensor, nn

from ...core.conditioning import Conditioning
from ...core.errors import ConfigError
from ..codec import KLCodec, TinyCodec, load_codec
from ..dialect import Dialect
from ..protocol import Layout, PartSize, SamplingDefaults
from ..tensor_file import dtype_named
from ..tiny_tokenizers import default_words
from ..toon_codec import untrained_codec
from ..work import Work
from . import lora, sizes
from .backbone import Backbone
from .clip_chunks import check as check_chunks
from .load import check_flavour, find_weights, stored_backbone, stored_shape
from .shapes import shape
from .t5_length import BUCKETS, T5Length
from .text_tower import SD3TextTower
from .tiny import tiny_tower
from .work import work

log = logging.getLogger(__name__)

CLIP_LENGTH = 77  # tokens of the released CLIPs


class SD35:
    """SD3.5 in three flavours. Parts are built on first use and then kept.

    Args:
        flavour: `tiny` (random weights, runs everywhere), `medium` (2.243 B) or `large` (8.057 B).
        weights: where the backbone's weights lie: a diffusers pipeline folder, its `transformer` folder, or a single file in the
            original key layout. A pipeline folder also gives codec and text encoders unless these are named.
        random_weights: train `medium` or `large` from nothing; without it and without `weights` they refuse to start.
        codec: a codec, or the folder of one.
        text: a text tower, or a pipeline folder that holds the encoders.
        with_t5: leave out T5 (its tokens become zeros, see `T5Length.null`) to save 9 GB.
        t5_pad_policy: see `T5Length`; `t5_length` is the exact length under `diffusers`.
        text_dtype: dtype the encoders compute in; rows are stored in bf16.
        vocabulary: words of the tiny flavour's tokenizers; default: toonworld's.
        clip_length: tokens of the tiny flavour's CLIPs.
        clip_chunks: pieces of 75 tokens in which the CLIPs may read one caption, as ComfyUI does; 1 cuts it at 77 tokens.
        depth, heads, dual_attention_layers, joint_attention_dim, pooled_projection_dim, pos_embed_max_size: change the
            flavour's shape.
        seed: of random weights.
    """

    name = "sd35"
    model_spec: Mapping[str, str] = {
        "architecture": "stable-diffusion-3.5",  # the standard's names end with the flavour
        "implementation": "https://github.com/Stability-AI/sd3.5",  # whose key names the original layouts use
    }
    lora_targets = lora.TARGETS
    text_settings = ("t5_pad_policy", "t5_length", "clip_length", "clip_chunks")

    def __init__(
        self,
        flavour: str = "medium",
        *,
        weights: str | Path | None = None,
        random_weights: bool = False,
        codec: KLCodec | TinyCodec | str | Path | None = None,
        text: SD3TextTower | str | Path | None = None,
        with_t5: bool = True,
        t5_pad_policy: str = "diffusers",
        t5_length: int | None = None,
        text_dtype: str = "float32",
        vocabulary: Sequence[str] | None = None,
        clip_length: int = 40,
        clip_chunks: int = 1,
        depth: int | None = None,
        heads: int | None = None,
        dual_attention_layers: Sequence[int] | None = None,
        joint_attention_dim: int | None = None,
        pooled_projection_dim: int | None = None,
        pos_embed_max_size: int | None = None,
        seed: int = 0,
    ) -> None:
        changes = {
            "num_layers": depth,
            "num_attention_heads": heads or depth,  # ComfyUI wants as many heads as blocks
            "dual_attention_layers": tuple(dual_attention_layers) if dual_attention_layers is not None else None,
            "joint_attention_dim": joint_attention_dim,
            "pooled_projection_dim": pooled_projection_dim or (joint_attention_dim if flavour == "tiny" else None),
            "pos_embed_max_size": pos_embed_max_size,
        }
        self.flavour, self.shape = flavour, shape(flavour, **changes)
        self.weights = Path(weights) if weights is not None else None
        if self.weights is not None:
            self.shape = stored_shape(self.weights)
            check_flavour(flavour, self.shape, changes, where=str(weights))
        self.patch = self.shape.patch_size
        self.defaults = SamplingDefaults(shift=3.0, cfg=4.5, steps=28)
        self.random_weights = random_weights or flavour == "tiny"
        self.with_t5, self.text_dtype = with_t5, dtype_named(text_dtype, where="model.text_dtype")
        length = t5_length or (clip_length if flavour == "tiny" else 256)
        self.t5_length = (
            T5Length(t5_pad_policy, length, minimum=clip_length, maximum=2 * clip_length)
            if flavour == "tiny"
            else T5Length(t5_pad_policy, length, maximum=BUCKETS[-1] if t5_pad_policy == "buckets" else 512)
        )
        self.vocabulary, self.clip_length, self.seed = vocabulary, clip_length, seed
        check_chunks(clip_chunks, length=clip_length if flavour == "tiny" else CLIP_LENGTH)
        self.clip_chunks = clip_chunks
        self._given_codec, self._given_text = codec, text
        self._backbone: Backbone | None = None
        self._codec: KLCodec | TinyCodec | None = None
        self._text: SD3TextTower | None = None

    @staticmethod
    def weights_at(path: Path) -> Mapping[str, Any]:
        """Options that read what is at `path`: a pipeline folder brings codec and text encoders, another layout the backbone."""
        found = find_weights(path)
        return {"weights": str(found)} | ({"codec": None, "text": None} if (found / "vae").is_dir() else {})

    def backbone(self) -> Backbone:
        """The velocity network in float32.

        Raises:
            ConfigError: `medium` or `large` without weights, unless random ones were asked for.
        """
        if self._backbone is None:
            self._backbone = self._build_backbone()
        return self._backbone

    def codec(self) -> KLCodec | TinyCodec:
        """Pixels to latents. The tiny flavour without one gets random weights of the right shape, with a warning."""
        if self._codec is None:
            self._codec = self._build_codec()
        return self._codec

    def text_tower(self) -> SD3TextTower:
        """Captions to conditioning. The tiny flavour without encoders gets designed ones, see `tiny_tower`."""
        if self._text is None:
            self._text = self._build_text()
        return self._text

    def layouts(self) -> Mapping[str, Layout]:
        """Export formats by name."""
        from .layouts import layouts  # layouts know families' parts, so they are imported when there is a family

        return layouts(self)

    def lora_layers(self, backbone: nn.Module) -> Mapping[str, str]:
        """Linear layers and the patch convolution: name in files -> module of `backbone`."""
        assert isinstance(backbone, Backbone)
        return lora.lora_layers(backbone.net, inside="net")

    @staticmethod
    def dialects() -> Mapping[str, Dialect]:
        """The ways to name a LoRA's tensors."""
        return lora.dialects()

    def sizes(self) -> Sequence[PartSize]:
        """Parameter counts of the parts as they would be built; large ones are counted without memory."""
        parts = [PartSize("backbone", sizes.backbone_parameters(self.shape), trainable=True)]
        text = self._text_sizes()
        parts += [
            PartSize(name, count, trainable=False) for name, count in text.items() if self.with_t5 or name != "t5"
        ]
        return [*parts, PartSize("codec", self._codec_size(), trainable=False)]

    @property
    def text_tokens(self) -> int:
        """CLIP's tokens and T5's. A policy that pads to no one length is taken at `T5Length.length`: few captions are longer.
        `buckets` and CLIP's pieces are taken at their most: a plan that holds for it holds for the others."""
        length, t5 = self.clip_length if self.flavour == "tiny" else CLIP_LENGTH, self.t5_length
        clip = length * self.clip_chunks
        if not self.with_t5:
            return clip + t5.null
        return clip + (t5.limit if t5.policy == "buckets" else t5.length)

    def tokens_of(self, cond: Conditioning) -> int:
        """CLIP's and T5's places of the longest caption: the others are padded to it."""
        return cond["text"].shape[1]

    def work(self, *, height: int, width: int, text_tokens: int) -> Work:
        """FLOP of one picture; `text_tokens` counts CLIP's places, too."""
        return work(self.shape, height=height, width=width, text_tokens=text_tokens)

    def outline(self) -> Backbone:
        """The backbone without memory."""
        with torch.device("meta"):
            return Backbone(SD3Transformer2DModel(**self.shape.config()))

    def random_inputs(
        self, count: int, *, height: int, width: int, tokens: int, seed: int = 0
    ) -> tuple[Tensor, Conditioning]:
        """Latents and conditioning of the shapes that codec and text tower give, without them."""
        from .stock import random_latents, random_text

        latents = random_latents(self.shape, count, height=height, width=width, seed=seed)
        return latents, random_text(self.shape, count, tokens=tokens, seed=seed)

    def stock(self, backbone: nn.Module) -> nn.Module:
        """diffusers' network on a copy of the backbone's weights."""
        from .stock import Stock

        assert isinstance(backbone, Backbone)
        return Stock(backbone, self.shape)

    def describe(self) -> Mapping[str, str]:
        """Identity for manifests and model cards. Builds codec and text tower, whose hashes are a part of it."""
        return {
            "family": self.name,
            "flavour": self.flavour,
            "shape": repr(self.shape),
            "weights": str(self.weights) if self.weights else f"random, seed {self.seed}",
            "codec": self.codec().fingerprint,
            "text": self.text_tower().fingerprint,
            "t5_length": repr(self.t5_length),
        } | ({"clip_chunks": str(self.clip_chunks)} if self.clip_chunks > 1 else {})

    def _build_backbone(self) -> Backbone:
        if self.weights is not None:
            return stored_backbone(self.weights)
        if not self.random_weights:
            raise ConfigError(
                f"sd35/{self.flavour} has no weights",
                where="model.weights",
                why="without them a model of this size would be trained from nothing",
                do="give a diffusers folder or an original single file (such as sd3.5_medium.safetensors), or set "
                "model.random_weights=true",
            )
        return Backbone.random(self.shape, seed=self.seed)

    def _build_codec(self) -> KLCodec | TinyCodec:
        if isinstance(self._given_codec, KLCodec | TinyCodec):
            return self._given_codec
        folder = self._folder(self._given_codec, "vae")
        if folder is not None:
            return load_codec(folder)
        if self.flavour != "tiny":
            raise ConfigError(
                f"sd35/{self.flavour} has no codec",
                where="model.codec",
                do="give the `vae` folder of a diffusers SD3.5 pipeline",
            )
        log.warning("sd35/tiny: no codec given, so this one has random weights and decodes to noise")
        return untrained_codec(seed=self.seed)

    def _build_text(self) -> SD3TextTower:
        if isinstance(self._given_text, SD3TextTower):
            return self._given_text
        width, folder = self.shape.joint_attention_dim, self._folder(self._given_text, "text_encoder")
        if folder is not None:
            return SD3TextTower.load(
                folder.parent,
                joint_dim=width,
                t5_length=self.t5_length,
                clip_chunks=self.clip_chunks,
                dtype=self.text_dtype,
                with_t5=self.with_t5,
            )
        if self.flavour != "tiny":
            raise ConfigError(
                f"sd35/{self.flavour} has no text encoders",
                where="model.text",
                do="give a diffusers SD3.5 pipeline folder (text_encoder, text_encoder_2, text_encoder_3 and their tokenizers)",
            )
        return tiny_tower(
            self.vocabulary or default_words(),
            joint_dim=width,
            clip_length=self.clip_length,
            clip_chunks=self.clip_chunks,
            t5_length=self.t5_length,
            with_t5=self.with_t5,
        )  # without our seed: they stand for released encoders, which are the same for every run

    def _folder(self, given: object, part: str) -> Path | None:
        """Folder of a part: the one that was given (or its `part`), else the one beside the weights, else none."""
        if isinstance(given, str | Path):
            return Path(given) / part if (Path(given) / part).is_dir() or part == "text_encoder" else Path(given)
        beside = self.weights / part if self.weights is not None else None
        return beside if beside is not None and beside.is_dir() else None

    def _text_sizes(self) -> Mapping[str, int]:
        folder = self._folder(self._given_text, "text_encoder")
        if isinstance(self._given_text, SD3TextTower) or (folder is None and self.flavour == "tiny"):
            return self.text_tower().sizes()
        return sizes.text_parameters(folder.parent if folder else None)

    def _codec_size(self) -> int:
        folder = self._folder(self._given_codec, "vae")
        if isinstance(self._given_codec, KLCodec | TinyCodec) or (folder is None and self.flavour == "tiny"):
            return self.codec().num_parameters
        return sizes.codec_parameters(folder)


FAMILY = SD35

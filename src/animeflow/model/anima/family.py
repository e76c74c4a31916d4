"""The Anima line: one object that builds backbone, codec and text tower. Knows where weights may lie; knows no data set."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AnimaTextConditioner, CosmosTransformer3DModel
from torch import Tensor, nn

from ...core.conditioning import Conditioning
from ...core.errors import ConfigError
from ..codec import KLCodec, TinyCodec
from ..dialect import Dialect
from ..protocol import Layout, PartSize, SamplingDefaults
from ..tensor_file import dtype_named
from ..tiny_tokenizers import default_words
from ..work import Work
from . import lora, sizes
from .adapter import check_mode
from .backbone import Backbone
from .codec import QwenCodec, load_anima_codec, untrained_qwen_codec
from .load import check_flavour, codec_beside, find_weights, stored_shape, stored_state
from .shapes import shape
from .text_tower import AnimaTextTower, check_empty_prompt
from .tiny import tiny_tower
from .tower_file import tower_from_file
from .work import work

log = logging.getLogger(__name__)

# The model card's own words: what to put before a prompt, and what to write as the negative one. An empty negative prompt is
# not the same in ComfyUI as in training, so the card's words are also the safer choice.
POSITIVE = "masterpiece, best quality, score_7, safe"
NEGATIVE = "worst quality, low quality, score_1, score_2, score_3, artist name"


class Anima:
    """Anima in two flavours. Parts are built on first use and then kept.

    Args:
        flavour: `tiny` (random weights, runs everywhere) or `base` (1.956 B and an adapter).
        weights: where DiT and adapter lie: a diffusers pipeline folder or a single file such as anima-base-v1.0.safetensors. A
            pipeline folder also gives codec, text encoder and tokenizers unless these are named.
        random_weights: train `base` from nothing; without it and without `weights` it refuses to start.
        codec: a codec, its folder, or qwen_image_vae.safetensors.
        text: a text tower, a pipeline folder, or qwen_3_06b_base.safetensors (which needs `tokenizers`).
        tokenizers: a folder with Qwen's and T5's tokenizers in `tokenizer` and `t5_tokenizer`, or in `qwen` and `t5`; a pipeline
            folder holds its own.
        adapter: what of the text adapter learns: `freeze`, `train` or `lora`. Its learning rate is `optim.rates.adapter`.
        adapter_rank, adapter_alpha: of the LoRA.
        empty_prompt: `masked` or `comfy`, see `AnimaTextTower`.
        text_dtype: dtype the encoder computes in; rows are stored in bf16.
        vocabulary: words of the tiny flavour's tokenizers; default: toonworld's.
        depth, heads, text_dim, qwen_dim, vocabulary_size, text_floor, learned_positions: change the flavour's shape.
        seed: of random weights.
    """

    name = "anima"
    lora_targets = lora.TARGETS
    text_settings = ("empty_prompt",)

    def __init__(
        self,
        flavour: str = "base",
        *,
        weights: str | Path | None = None,
        random_weights: bool = False,
        codec: QwenCodec | KLCodec | TinyCodec | str | Path | None = None,
        text: AnimaTextTower | str | Path | None = None,
        tokenizers: str | Path | None = None,
        adapter: str = "freeze",
        adapter_rank: int = 16,
        adapter_alpha: float = 16.0,
        empty_prompt: str = "masked",
        text_dtype: str = "float32",
        vocabulary: Sequence[str] | None = None,
        depth: int | None = None,
        heads: int | None = None,
        text_dim: int | None = None,
        qwen_dim: int | None = None,
        vocabulary_size: int | None = None,
        text_floor: int | None = None,
        learned_positions: bool | None = None,
        seed: int = 0,
    ) -> None:
        changes = {
            "num_layers": depth,
            "num_attention_heads": heads,
            "text_dim": text_dim,
            "adapter_dim": text_dim,
            "qwen_dim": qwen_dim,
            "vocabulary_size": vocabulary_size,
            "text_floor": text_floor,
            "learned_positions": learned_positions,
        }
        check_mode(adapter, adapter_rank)
        check_empty_prompt(empty_prompt)
        self.flavour, self.shape = flavour, shape(flavour, **changes)
        self.weights = Path(weights) if weights is not None else None
        if self.weights is not None:
            self.weights = find_weights(self.weights) if self.weights.is_dir() else self.weights
            self.shape = stored_shape(self.weights, like=self.shape)
            check_flavour(flavour, self.shape, changes, where=str(weights))
        self.patch = self.shape.patch_size
        self.defaults = SamplingDefaults(shift=3.0, cfg=4.5, steps=30)
        if flavour != "tiny":
            self.defaults = SamplingDefaults(3.0, 4.5, 30, "er_sde", "simple", POSITIVE, NEGATIVE)
        self.model_spec = {"architecture": "anima", "implementation": "https://huggingface.co/circlestone-labs/Anima"}
        self.random_weights = random_weights or flavour == "tiny"
        self.adapter, self.adapter_rank, self.adapter_alpha = adapter, adapter_rank, adapter_alpha
        self.empty_prompt, self.text_dtype = empty_prompt, dtype_named(text_dtype, where="model.text_dtype")
        self.tokenizers = Path(tokenizers) if tokenizers is not None else None
        self.vocabulary, self.seed = vocabulary, seed
        self._given_codec, self._given_text = codec, text
        self._backbone: Backbone | None = None
        self._codec: QwenCodec | KLCodec | TinyCodec | None = None
        self._text: AnimaTextTower | None = None

    @staticmethod
    def weights_at(path: Path) -> Mapping[str, Any]:
        """Options that read what is at `path`: a pipeline folder brings codec and text encoder, ComfyUI's folders and a file with
        everything the codec (a text encoder's file needs tokenizers besides), another layout the backbone alone."""
        found = find_weights(path)
        if (found / "vae").is_dir():
            return {"weights": str(found), "codec": None, "text": None, "tokenizers": None}
        codec = codec_beside(found)
        return {"weights": str(found)} | ({"codec": str(codec)} if codec is not None else {})

    def backbone(self) -> Backbone:
        """DiT and adapter in float32.

        Raises:
            ConfigError: `base` without weights, unless random ones were asked for.
        """
        if self._backbone is None:
            self._backbone = self._build_backbone()
        return self._backbone

    def codec(self) -> QwenCodec | KLCodec | TinyCodec:
        """Pixels to latents. The tiny flavour without one gets random weights of the right shape, with a warning."""
        if self._codec is None:
            self._codec = self._build_codec()
        return self._codec

    def text_tower(self) -> AnimaTextTower:
        """Captions to conditioning. The tiny flavour without an encoder gets a designed one, see `tiny_tower`."""
        if self._text is None:
            self._text = self._build_text()
        return self._text

    def layouts(self) -> Mapping[str, Layout]:
        """Export formats by name."""
        from .layouts import layouts  # layouts know the family's parts, so they are imported when there is a family

        return layouts(self)

    def lora_layers(self, backbone: nn.Module) -> Mapping[str, str]:
        """Linear layers of both networks: name in files -> module of `backbone`."""
        assert isinstance(backbone, Backbone)
        return lora.lora_layers(("net", backbone.net), ("adapter", backbone.adapter))

    @staticmethod
    def dialects() -> Mapping[str, Dialect]:
        """The ways to name a LoRA's tensors."""
        return lora.dialects()

    def sizes(self) -> Sequence[PartSize]:
        """Parameter counts of the parts as they would be built; large ones are counted without memory."""
        adapter = sizes.adapter_parameters(self.shape)
        parts = [
            PartSize("backbone", sizes.transformer_parameters(self.shape), trainable=True),
            PartSize("adapter", adapter, trainable=self.adapter == "train", own_rate="adapter"),
        ]
        if self.adapter == "lora":
            lora = sizes.lora_parameters(self.shape, self.adapter_rank)
            parts.append(PartSize("adapter LoRA", lora, trainable=True, own_rate="adapter"))
        return [
            *parts,
            PartSize("qwen", self._text_size(), trainable=False),
            PartSize("codec", self._codec_size(), trainable=False),
        ]

    @property
    def text_tokens(self) -> int:
        """The floor: what a caption lacks of it is filled with zeros that the DiT attends to."""
        return self.shape.text_floor

    def tokens_of(self, cond: Conditioning) -> int:
        """The floor, or the longest caption where that is longer."""
        return max(self.shape.text_floor, cond["t5_ids"].shape[1])

    def work(self, *, height: int, width: int, text_tokens: int) -> Work:
        """FLOP of one picture, the adapter's among them as far as it learns."""
        size = {"height": height, "width": width, "text_tokens": text_tokens}
        return work(self.shape, **size, adapter=self.adapter, rank=self.adapter_rank)

    def outline(self) -> Backbone:
        """The backbone without memory, with what of the adapter learns."""
        with torch.device("meta"):
            net = CosmosTransformer3DModel(**self.shape.transformer_config())
            backbone = Backbone(net, AnimaTextConditioner(**self.shape.conditioner_config()))
            backbone.adapter_mode(self.adapter, rank=self.adapter_rank, alpha=self.adapter_alpha, seed=self.seed)
        return backbone

    def random_inputs(
        self, count: int, *, height: int, width: int, tokens: int, seed: int = 0
    ) -> tuple[Tensor, Conditioning]:
        """Latents and conditioning of the shapes that codec and text tower give, without them."""
        from .stock import random_latents, random_text

        latents = random_latents(self.shape, count, height=height, width=width, seed=seed)
        return latents, random_text(self.shape, count, tokens=tokens, seed=seed)

    def stock(self, backbone: nn.Module) -> nn.Module:
        """diffusers' networks on a copy of the backbone's weights. An adapter that learns by a LoRA is merged, and frozen."""
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
            "adapter": f"lora, rank {self.adapter_rank}" if self.adapter == "lora" else self.adapter,
            "empty prompt": self.empty_prompt,
        }

    # -- inside --------------------------------------------------------------------------------------------------------

    def _build_backbone(self) -> Backbone:
        if self.weights is not None:
            backbone = Backbone.from_state(self.shape, stored_state(self.weights), where=str(self.weights))
        elif self.random_weights:
            backbone = Backbone.random(self.shape, seed=self.seed)
        else:
            raise ConfigError(
                f"anima/{self.flavour} has no weights",
                where="model.weights",
                why="without them a model of this size would be trained from nothing",
                do="give anima-base-v1.0.safetensors or a diffusers Anima folder, or set model.random_weights=true",
            )
        backbone.adapter_mode(self.adapter, rank=self.adapter_rank, alpha=self.adapter_alpha, seed=self.seed)
        return backbone

    def _build_codec(self) -> QwenCodec | KLCodec | TinyCodec:
        if self._given_codec is not None and not isinstance(self._given_codec, str | Path):
            return self._given_codec
        place = self._codec_place()
        if place is not None:
            codec = load_anima_codec(place)
            if codec.channels != self.shape.channels:
                raise ConfigError(
                    f"the codec has {codec.channels} latent channels, anima has {self.shape.channels}",
                    where="model.codec",
                    do="give Qwen-Image's autoencoder",
                )
            return codec
        if self.flavour != "tiny":
            raise ConfigError(
                f"anima/{self.flavour} has no codec",
                where="model.codec",
                do="give qwen_image_vae.safetensors, or the `vae` folder of a diffusers Anima pipeline",
            )
        log.warning("anima/tiny: no codec given, so this one has random weights and decodes to noise")
        return untrained_qwen_codec(seed=self.seed)

    def _build_text(self) -> AnimaTextTower:
        if isinstance(self._given_text, AnimaTextTower):
            return self._given_text
        place = self._text_place()
        if place is not None and place.is_file():
            tower = tower_from_file(place, self.tokenizers, empty_prompt=self.empty_prompt, dtype=self.text_dtype)
            return self._fitting(tower)
        if place is not None:
            return self._fitting(
                AnimaTextTower.load(
                    place, tokenizers=self.tokenizers, dtype=self.text_dtype, empty_prompt=self.empty_prompt
                )
            )
        if self.flavour != "tiny":
            raise ConfigError(
                f"anima/{self.flavour} has no text encoder",
                where="model.text",
                do="give qwen_3_06b_base.safetensors and model.tokenizers, or a diffusers Anima pipeline folder",
            )
        # Without our seed: it stands for a released encoder, which is the same for every run.
        return self._fitting(
            tiny_tower(self.vocabulary or default_words(), qwen_dim=self.shape.qwen_dim, empty_prompt=self.empty_prompt)
        )

    def _fitting(self, tower: AnimaTextTower) -> AnimaTextTower:
        """Raises ConfigError when the adapter cannot read what the tower gives."""
        tokens = len(tower.t5_tokenizer)
        if tower.width != self.shape.qwen_dim or tokens > self.shape.vocabulary_size:
            raise ConfigError(
                f"the text encoder has {tower.width} channels and {tokens} T5 tokens, the adapter reads {self.shape.qwen_dim} "
                f"channels and at most {self.shape.vocabulary_size} tokens",
                where="model.text",
                do="set model.qwen_dim and model.vocabulary_size to fit, or give the released Qwen3-0.6B and T5 tokenizer",
            )
        return tower

    def _codec_place(self) -> Path | None:
        """The folder or file of the codec: the one that was given (or its `vae`), else the one beside the weights, else none."""
        if isinstance(self._given_codec, str | Path):
            given = Path(self._given_codec)
            return given / "vae" if (given / "vae").is_dir() else given
        beside = self.weights / "vae" if self.weights is not None else None
        return beside if beside is not None and beside.is_dir() else None

    def _text_place(self) -> Path | None:
        """A pipeline folder with `text_encoder`, a file, or none."""
        if isinstance(self._given_text, str | Path):
            return Path(self._given_text)
        beside = self.weights is not None and (self.weights / "text_encoder").is_dir()
        return self.weights if beside else None

    def _text_size(self) -> int:
        place = self._text_place()
        if isinstance(self._given_text, AnimaTextTower) or (place is None and self.flavour == "tiny"):
            return self.text_tower().sizes()["qwen"]
        return sizes.text_parameters(place if place is not None and place.is_dir() else None)

    def _codec_size(self) -> int:
        place = self._codec_place()
        if place is None and (self._given_codec is not None or self.flavour == "tiny"):
            return self.codec().num_parameters
        return sizes.codec_parameters(place if place is not None and place.is_dir() else None)


FAMILY = Anima

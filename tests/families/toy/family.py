"""The toy family: one object that builds backbone, codec and text tower, and one file that holds its weights."""

import copy
from pathlib import Path

import torch

from ...core.conditioning import Conditioning
from ...core.seed import normal
from ..lora_layers import low_rank_layers
from ..lora_names import Row, Spelling
from ..lora_table import TableDialect
from ..protocol import PartSize, SamplingDefaults
from ..tensor_file import cast, only_file, read_tensors, write_tensors
from ..work import Work, linear
from .backbone import Backbone
from .pixels import Pixels
from .words import WIDTH, Words


class Toy:
    name, patch = "toy", 1
    text_settings = ("words",)  # options below that change text features
    text_tokens = 1  # whatever a caption says becomes one vector
    defaults = SamplingDefaults(shift=3.0, cfg=2.0, steps=8)
    model_spec = {"architecture": "toy", "implementation": "animeflow"}  # noqa: RUF012
    lora_targets = {"default": ("film",), "all": ("*",)}  # noqa: RUF012

    def __init__(self, flavour="tiny", *, weights=None, width=32, words=40, seed=0):
        self.flavour, self.weights = flavour, str(weights or f"random, seed {seed}")
        self._codec, self._text, self.width = Pixels(), Words(words), width
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._backbone = Backbone(self._codec.channels, width, WIDTH)
        if weights is not None:
            found = read_tensors(Path(weights))
            self._backbone.load_state_dict({name: tensor.float() for name, tensor in found.items()})

    @staticmethod
    def weights_at(path):
        return {"weights": str(only_file(path, within=("", OneFile.name)))}

    def backbone(self):
        return self._backbone

    def codec(self):
        return self._codec

    def text_tower(self):
        return self._text

    def layouts(self):
        return {OneFile.name: OneFile()}

    def lora_layers(self, backbone):
        return {name: name for name in low_rank_layers(backbone)}  # our modules have the names that our files have

    @staticmethod
    def dialects():
        names = ("read", "film", "say")
        toy = TableDialect(
            name="toy",
            readers=("animeflow",),
            place="beside whatever reads it",
            rows=tuple(Row(name, (name,)) for name in names),
            spellings=(Spelling("toy."),),
            own_alpha=True,
        )
        return {toy.name: toy}

    def sizes(self):
        return [PartSize("backbone", sum(p.numel() for p in self._backbone.parameters()), trainable=True)]

    def tokens_of(self, cond):
        return self.text_tokens

    def work(self, *, height, width, text_tokens):
        cells, channels = height * width // self._codec.stride**2, self._codec.channels
        film = linear(1, 16 + WIDTH, 2 * self.width)
        read, say = linear(cells, 9 * channels, self.width), linear(cells, 9 * self.width, channels)
        return Work(
            linear=film + read + say, attention=(), spared=film + read
        )  # these two read what nothing trainable made

    def outline(self):
        with torch.device("meta"):
            return Backbone(self._codec.channels, self.width, WIDTH)

    def random_inputs(self, count, *, height, width, tokens, seed=0):
        cells = (self._codec.channels, height // self._codec.stride, width // self._codec.stride)
        return normal((count, *cells), seed, "latents"), Conditioning({"text": normal((count, WIDTH), seed, "text")})

    def stock(self, backbone):
        return copy.deepcopy(backbone)  # no library has this network: it is its own peer

    def describe(self):
        parts = {"codec": self._codec.fingerprint, "text": self._text.fingerprint}
        return {"family": self.name, "flavour": self.flavour, "weights": self.weights, **parts}


class OneFile:
    name, has_backbone = "one_file", True
    place, example = "beside whatever reads it", ""  # for the model card

    def write(self, state, folder, *, dtype, metadata, stem="model"):
        return [write_tensors(folder / f"{stem}.safetensors", cast(state, dtype), metadata)]

    def read(self, path):
        return read_tensors(only_file(path))

    def notes(self):
        return []


FAMILY = Toy

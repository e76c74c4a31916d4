"""Every word a random vector of its own, a caption their mean. Knows strings; reads no file."""

import torch

from ...core.conditioning import Conditioning
from ...core.errors import ConfigError
from ...core.files import address
from ...core.seed import normal

WIDTH = 32


class Words:
    encoders, device = ("words",), torch.device("cpu")

    def __init__(self, limit):
        self.limit, self.fingerprint = limit, address(kind="random words", width=WIDTH, limit=limit)

    def encode(self, captions):
        return self.encode_weighted([[(caption, 1.0)] for caption in captions])

    def encode_weighted(self, prompts):
        words = [[(word, weight) for text, weight in prompt for word in split(text)] for prompt in prompts]
        vectors = [[weight * normal((WIDTH,), "word", word) for word, weight in some[: self.limit]] for some in words]
        return [{"words": torch.stack(some)} for some in vectors]

    def collate(self, rows, *, drop=None):
        drop = drop or [frozenset()] * len(rows)
        if unknown := frozenset().union(*drop) - set(self.encoders):
            raise ConfigError(f"no encoder {sorted(unknown)}", do="there is one: words")
        means = [row["words"].float().mean(0) * ("words" not in gone) for row, gone in zip(rows, drop, strict=True)]
        return Conditioning({"text": torch.stack(means)})

    def num_tokens(self, caption):
        number = len(split(caption))
        return {"words": (number, min(number, self.limit))}

    def to(self, device):
        return self  # a batch of means goes where it is needed


def split(text):
    return text.replace(",", " ").split() or [""]

"""The three text encoders of SD3, one by one: tokens in, features out. Knows transformers; knows no trainer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...core.files import address
from ..packing import sent
from ..protocol import Prompt
from ..weights import hash_state
from .clip_chunks import Chunks, Token, chunks
from .t5_length import T5Length


class Clip:
    """A CLIP text encoder: states of the last layer but one without the final norm, and the projected state of the end token."""

    def __init__(self, model: Any, tokenizer: Any, *, length: int | None = None, weights: str | None = None) -> None:
        """`model` is a `CLIPTextModelWithProjection`; `length` defaults to what tokenizer and model allow (77 for the real
        ones); `weights` is the hash of the weights, computed when it is not given."""
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = _expect_long_captions(tokenizer)
        self.length = length or min(tokenizer.model_max_length, model.config.max_position_embeddings)
        self.room = self.length - 2  # between start and end
        self.width = int(model.config.hidden_size)
        self.pooled_width = int(model.config.projection_dim)
        self.identity = address(
            weights=weights or hash_state(model.state_dict()),
            tokenizer=tokenizer_hash(tokenizer),
            length=self.length,
            dtype=str(model.dtype),
        )

    def num_tokens(self, caption: str) -> int:
        """Tokens of a caption with start and end token, before cutting."""
        return len(self.tokenizer.tokenize(caption)) + self.tokenizer.num_special_tokens_to_add()

    @torch.no_grad()
    def __call__(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """States `[B, length, width]` and pooled `[B, pooled_width]`. Causal attention: padding never reaches a real token."""
        tokens = self.tokenizer(
            list(captions), padding="max_length", max_length=self.length, truncation=True, return_tensors="pt"
        )
        return self._read(tokens["input_ids"])

    @torch.no_grad()
    def weighted(self, prompt: Prompt) -> tuple[Tensor, Tensor]:
        """States `[length, width]` of one prompt with emphasis, float32, and pooled `[pooled_width]`, which has none."""
        return self.weighted_chunks([_tokens(self.tokenizer, prompt)[: self.room]])

    def cut(self, prompt: Prompt) -> Chunks:
        """All tokens of a prompt in chunks of at most `room`."""
        return chunks([_tokens(self.tokenizer, [piece]) for piece in prompt], room=self.room)

    @torch.no_grad()
    def read_chunks(self, captions: Sequence[Chunks]) -> tuple[Tensor, Tensor]:
        """States `[B, K * length, width]` of captions of K chunks each, and pooled `[B, pooled_width]` of their first
        chunks. Every chunk is encoded for itself."""
        ids_BKL = torch.tensor([[self._row(chunk) for chunk in caption] for caption in captions])
        states, pooled = self._read(ids_BKL.flatten(0, 1))
        return states.unflatten(0, ids_BKL.shape[:2]).flatten(1, 2), pooled[:: ids_BKL.shape[1]]

    @torch.no_grad()
    def weighted_chunks(self, prompt: Chunks) -> tuple[Tensor, Tensor]:
        """States `[K * length, width]` of one prompt with emphasis, float32, and pooled `[pooled_width]` of its first chunk, which
        has none. Every chunk stands beside the same empty prompt."""
        states, pooled = self._read(torch.tensor([self._row(chunk) for chunk in [*prompt, []]]))
        weights = [[1.0, *(weight for _, weight in chunk)] for chunk in prompt]
        weights_KL = torch.tensor([row + [1.0] * (self.length - len(row)) for row in weights])
        return _emphasised(states, weights_KL[..., None]).flatten(0, 1), pooled[0].clone()

    def _row(self, chunk: Sequence[Token]) -> list[int]:
        """Ids of one chunk with start, end and padding, `length` of them."""
        ids = [self.tokenizer.bos_token_id, *(token for token, _ in chunk), self.tokenizer.eos_token_id]
        return ids + [self.tokenizer.pad_token_id] * (self.length - len(ids))

    def _read(self, ids_BL: Tensor) -> tuple[Tensor, Tensor]:
        output = self.model(sent(ids_BL, self.model.device), output_hidden_states=True)
        return output.hidden_states[-2], output.text_embeds


class T5:
    """A T5 encoder without attention mask, as SD3 was trained: the padding takes part, so the length is a policy."""

    def __init__(self, model: Any, tokenizer: Any, *, length: T5Length, weights: str | None = None) -> None:
        """`model` is a `T5EncoderModel`; `weights` as for `Clip`."""
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = _expect_long_captions(tokenizer)
        self.length = length
        self.width = int(model.config.d_model)
        self.identity = address(
            weights=weights or hash_state(model.state_dict()),
            tokenizer=tokenizer_hash(tokenizer),
            length=repr(length),
            dtype=str(model.dtype),
        )

    def num_tokens(self, caption: str) -> int:
        """Tokens of a caption with the end token, before cutting."""
        return len(self.tokenizer.tokenize(caption)) + self.tokenizer.num_special_tokens_to_add()

    def token_ids(self, caption: str) -> list[int]:
        """Ids of a caption, cut and padded as the policy says."""
        ids = self.tokenizer(caption, truncation=True, max_length=self.length.limit)["input_ids"]
        return ids + [self.tokenizer.pad_token_id] * (self.length(len(ids)) - len(ids))

    @torch.no_grad()
    def __call__(self, ids: Sequence[Sequence[int]]) -> Tensor:
        """Ids of one common length n -> states `[B, n, width]`."""
        return self.model(sent(torch.tensor(ids), self.model.device))[0]

    def weighted(self, prompt: Prompt) -> Tensor:
        """States `[n, width]` of one prompt with emphasis, float32, at the length that the policy gives its tokens."""
        end = (self.tokenizer.eos_token_id, 1.0)
        tokens = [*_tokens(self.tokenizer, prompt)[: self.length.limit - 1], end]
        ids_2n, weights_n1 = _beside_empty(
            tokens, [end], pad=self.tokenizer.pad_token_id, length=self.length(len(tokens))
        )
        return _emphasised(self(ids_2n.tolist()), weights_n1[None])[0]


def _tokens(tokenizer: Any, prompt: Prompt) -> list[Token]:
    """Tokens of the pieces, each tokenized for itself, without start and end."""
    return [
        (token, weight) for text, weight in prompt for token in tokenizer(text, add_special_tokens=False)["input_ids"]
    ]


def _beside_empty(tokens: list[Token], empty: list[Token], *, pad: int, length: int) -> tuple[Tensor, Tensor]:
    """Ids `[2, length]` of a prompt and of the empty one, padded alike, and the prompt's weights `[length, 1]`."""
    ids = [[token for token, _ in row] + [pad] * (length - len(row)) for row in (tokens, empty)]
    weights = [weight for _, weight in tokens] + [1.0] * (length - len(tokens))
    return torch.tensor(ids), torch.tensor(weights)[:, None]


def _emphasised(states: Tensor, weights_KL1: Tensor) -> Tensor:
    """z_empty + w (z - z_empty) for the token at every place, `[K, L, D]`: `lerp` is exact at w = 1 and at w = 0. `states`
    `[K + 1, L, D]` has the empty prompt last."""
    z_KLD, z_empty_LD = states[:-1].float(), states[-1].float()
    return torch.lerp(z_empty_LD.expand_as(z_KLD), z_KLD, weights_KL1.to(z_KLD.device))


def _expect_long_captions(tokenizer: Any) -> Any:
    """Captions are counted before they are cut, so the tokenizer's warning that the model cannot take them is not true here."""
    tokenizer.deprecation_warnings["sequence-length-is-longer-than-the-specified-maximum"] = True
    return tokenizer


def tokenizer_hash(tokenizer: Any) -> str:
    """Hash of everything that turns a string into ids; not of padding and truncation, which each call sets."""
    facts = json.loads(tokenizer.backend_tokenizer.to_str())
    facts.pop("padding", None)
    facts.pop("truncation", None)
    return address(backend=facts, pad=tokenizer.pad_token_id)

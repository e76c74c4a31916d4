"""The three text encoders of SD3, one by one: tokens in, features out. Knows transformers; knows no trainer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...core.files import address
from ..weights import hash_state
from .t5_length import T5Length


class Clip:
    """A CLIP text encoder: states of the last layer but one without the final norm, and the projected state of the end token."""

    def __init__(self, model: Any, tokenizer: Any, *, length: int | None = None, weights: str | None = None) -> None:
        """`model` is a `CLIPTextModelWithProjection`; `length` defaults to what tokenizer and model allow (77 for the real
        ones); `weights` is the hash of the weights, computed when it is not given."""
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = _expect_long_captions(tokenizer)
        self.length = length or min(tokenizer.model_max_length, model.config.max_position_embeddings)
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
        output = self.model(tokens["input_ids"].to(self.model.device), output_hidden_states=True)
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
        return self.model(torch.tensor(ids, device=self.model.device))[0]


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

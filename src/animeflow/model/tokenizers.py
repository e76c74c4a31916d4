"""What every text tower needs of a tokenizer: its identity, and silence where it is wrong. Knows transformers' tokenizers only."""

from __future__ import annotations

import json
from typing import Any

from ..core.files import address


def expect_long_captions(tokenizer: Any) -> Any:
    """Captions are counted before they are cut, so the tokenizer's warning that the model cannot take them is not true here."""
    tokenizer.deprecation_warnings["sequence-length-is-longer-than-the-specified-maximum"] = True
    return tokenizer


def tokenizer_hash(tokenizer: Any) -> str:
    """Hash of everything that turns a string into ids; not of padding and truncation, which each call sets."""
    facts = json.loads(tokenizer.backend_tokenizer.to_str())
    facts.pop("padding", None)
    facts.pop("truncation", None)
    return address(backend=facts, pad=tokenizer.pad_token_id)

"""Anima's text path up to the adapter: states of Qwen3 and token ids of T5. Knows transformers; knows no backbone and no cache.

What the adapter makes of them is a part of the backbone, because it can be trained. Everything here is as ComfyUI does it: no chat
template, no start or end token for Qwen, an end token for T5, nothing cut, states of padding zero.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ...core.conditioning import Conditioning
from ...core.errors import ConfigError, did_you_mean
from ...core.files import address
from ..packing import Returning, groups, sent
from ..pretrained import load_whole
from ..protocol import Prompt, TextRow
from ..tokenizers import expect_long_captions, tokenizer_hash
from ..weights import hash_files, hash_state, weight_files

ENCODERS = ("qwen", "t5")
EMPTY_PROMPTS = ("masked", "comfy")
MAX_TOKENS = 4096  # far above any caption: only a broken one is cut, and it is counted


class AnimaTextTower:
    """Captions to rows and rows to the backbone's conditioning.

    A row holds `qwen [n, Dq]` (the last hidden state, bf16) and `t5_ids [m]` (int32, with the end token), both at the caption's own
    length, so masks need not be stored; with emphasis also `t5_weights [m]`.

    Args:
        model: a `Qwen3Model`; `tokenizer` its tokenizer, `t5_tokenizer` that of T5.
        empty_prompt: what Qwen gives for it. `masked`: no state at all, as every trainer taught. `comfy`: the state of one
            padding token, which is what ComfyUI feeds the adapter (another one, so write a negative prompt there).
        weights: hash of the model's weights, computed when it is not given.
        max_tokens: longer captions lose their end.
        round_to: captions whose lengths round up to the same multiple of it are computed together. What is then put after a caption
            reaches none of its tokens, as attention is causal; 1 puts nothing, and gives a step nearly as many calls as captions,
            each of which costs the host more than the padding costs the device.
    """

    encoders = ENCODERS

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        t5_tokenizer: Any,
        *,
        empty_prompt: str = "masked",
        weights: str | None = None,
        row_dtype: torch.dtype = torch.bfloat16,
        captions_at_once: int = 32,
        max_tokens: int = MAX_TOKENS,
        round_to: int = 16,
    ) -> None:
        check_empty_prompt(empty_prompt)
        self.model = model.eval().requires_grad_(False)
        self.tokenizer, self.t5_tokenizer = expect_long_captions(tokenizer), expect_long_captions(t5_tokenizer)
        self.empty_prompt, self.row_dtype, self.captions_at_once, self.max_tokens = (
            empty_prompt,
            row_dtype,
            captions_at_once,
            max_tokens,
        )
        self.round_to, self.width = round_to, int(model.config.hidden_size)
        # Tokenizers hold state while they work, and `to` moves weights that `encode` reads.
        self._alone = threading.RLock()
        self.fingerprint = address(
            weights=weights or hash_state(model.state_dict()),
            tokenizer=tokenizer_hash(tokenizer),
            t5_tokenizer=tokenizer_hash(t5_tokenizer),
            empty_prompt=empty_prompt,
            max_tokens=max_tokens,
            dtype=f"{model.dtype} {row_dtype}",
        )

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        tokenizers: Path | None = None,
        dtype: torch.dtype = torch.float32,
        **options: Any,
    ) -> AnimaTextTower:
        """From the folders `text_encoder`, `tokenizer` and `t5_tokenizer` of a diffusers pipeline; `tokenizers` tells where the
        last two are when they lie elsewhere."""
        from transformers import Qwen3Model

        folder = Path(folder)
        if not (folder / "text_encoder").is_dir():
            raise ConfigError(
                f"no text encoder in '{folder}'",
                where="model.text",
                do="give a diffusers Anima pipeline folder (text_encoder, tokenizer, t5_tokenizer), or the file "
                "qwen_3_06b_base.safetensors and model.tokenizers",
            )
        part = folder / "text_encoder"
        weights = hash_files(weight_files(part))
        model = load_whole(Qwen3Model, part, dtype=dtype)
        return cls(model, *load_tokenizers(tokenizers or folder), weights=weights, **options)

    def save(self, folder: str | Path) -> None:
        """Into the folders that `load` and a diffusers pipeline read."""
        folder = Path(folder)
        self.model.save_pretrained(folder / "text_encoder")
        self.tokenizer.save_pretrained(folder / "tokenizer")
        self.t5_tokenizer.save_pretrained(folder / "t5_tokenizer")

    def encode(self, captions: Sequence[str]) -> list[TextRow]:
        """One row per caption, on the CPU. Equal captions are computed once."""
        return self.encode_weighted([((caption, 1.0),) for caption in captions])

    def encode_weighted(self, prompts: Sequence[Prompt]) -> list[TextRow]:
        """As `encode`, for pieces with weights. Pieces are tokenized one by one; Qwen sees every weight as 1, and each T5 token
        carries the weight of its piece to the adapter's output, the end token 1."""
        keys: list[tuple[tuple[str, float], ...]] = [tuple(prompt) for prompt in prompts]
        different = sorted(set(keys))  # so that no order decides what is computed beside which other
        with self._alone, Returning(self.row_dtype) as returning:
            rows = [self._t5_part(prompt) for prompt in different]
            ids = [self._qwen_ids(prompt) for prompt in different]
            for places in groups([len(each) for each in ids], most=self.captions_at_once, step=self.round_to):
                some = [ids[place] for place in places]
                returning.add(
                    self._states(some), partial(_put, [rows[place] for place in places], list(map(len, some)))
                )
        known = dict(zip(different, rows, strict=True))
        return [dict(known[key]) for key in keys]

    def collate(self, rows: Sequence[TextRow], *, drop: Sequence[frozenset[str]] | None = None) -> Conditioning:
        """`qwen [B, Lq, Dq]`, `t5_ids [B, Lt]`, their masks, and `t5_weights` where a row has them. A dropped Qwen has no states; a
        dropped T5 has its end token alone. Both together are the null prompt of the training."""
        dropped = drop if drop is not None else [frozenset()] * len(rows)
        unknown = frozenset().union(*dropped) - set(ENCODERS)
        if unknown or len(dropped) != len(rows):
            raise ConfigError(
                f"cannot drop {sorted(unknown)} from {len(rows)} rows with {len(dropped)} choices",
                do=f"give one set per row, with names among {', '.join(ENCODERS)}",
            )
        rows = [self._without(row, names) for row, names in zip(rows, dropped, strict=True)]
        qwen, qwen_mask = _padded([row["qwen"] for row in rows])
        t5_ids, t5_mask = _padded([row["t5_ids"] for row in rows])
        tensors = {"qwen": qwen, "qwen_mask": qwen_mask, "t5_ids": t5_ids, "t5_mask": t5_mask}
        if any("t5_weights" in row for row in rows):
            plain = [torch.ones(len(row["t5_ids"])) for row in rows]
            tensors["t5_weights"], _ = _padded([row.get("t5_weights", ones) for row, ones in zip(rows, plain)])
        return Conditioning(tensors)

    def num_tokens(self, caption: str) -> Mapping[str, tuple[int, int]]:
        """Per encoder: (tokens of the caption, T5's end token included; tokens that are kept)."""
        with self._alone:
            qwen = max(1, len(self.tokenizer.tokenize(caption)))
            t5 = len(self.t5_tokenizer.tokenize(caption)) + 1
        return {name: (count, min(count, self.max_tokens)) for name, count in (("qwen", qwen), ("t5", t5))}

    def sizes(self) -> dict[str, int]:
        """Parameters per encoder; of T5 only the tokenizer is used."""
        return {"qwen": sum(parameter.numel() for parameter in self.model.parameters())}

    def to(self, device: torch.device | str) -> AnimaTextTower:
        """Move the encoder, when no `encode` is under way in another thread."""
        with self._alone:
            self.model.to(device)
        return self

    @property
    def device(self) -> torch.device:
        return torch.device(self.model.device)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _t5_part(self, prompt: Prompt) -> dict[str, Tensor]:
        """The row as far as T5's tokenizer makes it."""
        ids, weights = self._t5(prompt)
        row = {"t5_ids": torch.tensor(ids, dtype=torch.int32)}
        if any(weight != 1.0 for weight in weights):
            row["t5_weights"] = torch.tensor(weights)
        return row

    def _t5(self, prompt: Prompt) -> tuple[list[int], list[float]]:
        """Ids and weights with the end token."""
        ids: list[int] = []
        weights: list[float] = []
        for text, weight in prompt:
            found = self.t5_tokenizer(text, add_special_tokens=False)["input_ids"]
            ids += found
            weights += [weight] * len(found)
        keep = self.max_tokens - 1
        return [*ids[:keep], self.t5_tokenizer.eos_token_id], [*weights[:keep], 1.0]

    def _qwen_ids(self, prompt: Prompt) -> list[int]:
        ids = [token for text, _ in prompt for token in self.tokenizer(text, add_special_tokens=False)["input_ids"]]
        if not ids and self.empty_prompt == "comfy":
            return [self.tokenizer.pad_token_id]
        return ids[: self.max_tokens]

    @torch.no_grad()
    def _states(self, ids: Sequence[Sequence[int]]) -> Tensor:
        """Last hidden states `[B, L, Dq]` of captions as long as the longest, where the encoder is."""
        longest = max(map(len, ids))
        if not longest:
            return torch.empty(len(ids), 0, self.width)
        ids_BL = torch.tensor([[*row, *[self.tokenizer.pad_token_id] * (longest - len(row))] for row in ids])
        return self.model(input_ids=sent(ids_BL, self.device), use_cache=False).last_hidden_state

    def _without(self, row: TextRow, names: frozenset[str]) -> TextRow:
        kept = dict(row)
        if "qwen" in names:
            kept["qwen"] = row["qwen"][:0]
        if "t5" in names:
            kept["t5_ids"] = row["t5_ids"].new_tensor([self.t5_tokenizer.eos_token_id])
            kept.pop("t5_weights", None)
        return kept


def check_empty_prompt(name: str) -> None:
    """Raises ConfigError for one that is not offered."""
    if name not in EMPTY_PROMPTS:
        raise ConfigError(
            f"unknown empty prompt '{name}'{did_you_mean(name, EMPTY_PROMPTS)}",
            where="model.empty_prompt",
            do=f"choose one of: {', '.join(EMPTY_PROMPTS)}",
        )


def load_tokenizers(folder: Path) -> tuple[Any, Any]:
    """Qwen's and T5's tokenizer: the folders `tokenizer` and `t5_tokenizer` of a pipeline, or `qwen` and `t5`."""
    from transformers import Qwen2Tokenizer, T5TokenizerFast

    found = []
    for kind, names in ((Qwen2Tokenizer, ("tokenizer", "qwen")), (T5TokenizerFast, ("t5_tokenizer", "t5"))):
        places = [folder / name for name in names if (folder / name).is_dir()]
        if not places:
            raise ConfigError(
                f"no folder {' or '.join(names)} in '{folder}'",
                where="model.tokenizers",
                why="a text encoder's file does not hold its tokenizer",
                do="give a folder with the two tokenizers, e.g. a diffusers Anima pipeline",
            )
        found.append(kind.from_pretrained(places[0], local_files_only=True))
    return found[0], found[1]


def _put(rows: Sequence[dict[str, Tensor]], lengths: Sequence[int], states_BLD: Tensor) -> None:
    """Each row its states, in memory of its own."""
    for row, length, states_LD in zip(rows, lengths, states_BLD, strict=True):
        row["qwen"] = states_LD[:length].clone()


def _padded(parts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """`[n_i, ...]` of different lengths -> `[B, n, ...]` with zeros after each end, and the mask `[B, n]` of what is real."""
    lengths = torch.tensor([len(part) for part in parts])
    longest = max(1, int(lengths.max()))
    filled = [F.pad(part, (0, 0) * (part.ndim - 1) + (0, longest - len(part))) for part in parts]
    return torch.stack(filled), torch.arange(longest)[None, :] < lengths[:, None]

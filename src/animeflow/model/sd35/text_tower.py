"""SD3's text path: CLIP-L, CLIP-G and T5 to one sequence and one pooled vector. Knows encoders; knows no backbone and no cache.

Layout (SD3 paper, figure 2): tokens of CLIP-L and CLIP-G side by side on channels, zeros up to the joint width, then T5's tokens
after them; pooled is L beside G. A dropped encoder becomes zeros in its own part, which is how SD3 learned its null.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ...core.conditioning import Conditioning
from ...core.errors import ConfigError
from ...core.files import address
from ..packing import Returning, groups
from ..pretrained import load_whole
from ..protocol import Prompt, TextRow
from ..weights import hash_files, weight_files
from .clip_chunks import Chunks, check
from .encoders import T5, Clip
from .t5_length import T5Length

PARTS = ("clip_l", "clip_g", "t5")


class SD3TextTower:
    """Captions to rows (one per caption, its own length) and rows to the backbone's conditioning.

    A row holds `clip_l [Lc, 768]`, `clip_g [Lc, 1280]`, `pooled_l [768]`, `pooled_g [1280]` and, where there is a T5,
    `t5 [n, 4096]` (released sizes). Without T5 `collate` puts as many zero tokens as the length policy says.

    With `clip_chunks` above one, the CLIPs read a long caption in as many pieces as it needs, at most so many (`clip_chunks.py`).
    Their states stand one after the other, so Lc is 77 times the pieces; the pooled vectors are the first piece's.
    """

    def __init__(
        self,
        clip_l: Clip,
        clip_g: Clip,
        t5: T5 | None,
        *,
        joint_dim: int,
        t5_length: T5Length,
        clip_chunks: int = 1,
        row_dtype: torch.dtype = torch.bfloat16,
        captions_at_once: int = 32,
    ) -> None:
        if clip_l.width + clip_g.width > joint_dim or (t5 and t5.width != joint_dim) or clip_l.length != clip_g.length:
            raise ConfigError(
                f"text encoders do not fit together: CLIP {clip_l.width} + {clip_g.width} channels x {clip_l.length} and "
                f"{clip_g.length} tokens, T5 {t5.width if t5 else 'absent'}, joint width {joint_dim}",
                where="model.text",
                do="the two CLIP widths must fit into the joint width, T5's must equal it, both CLIPs need one length",
            )
        check(clip_chunks, length=clip_l.length)
        self.clip_l, self.clip_g, self.t5 = clip_l, clip_g, t5
        self.joint_dim, self.t5_length, self.clip_chunks = joint_dim, t5_length, clip_chunks
        self.row_dtype, self.captions_at_once = row_dtype, captions_at_once
        self.encoders = PARTS if t5 else PARTS[:2]
        # Tokenizers hold state while they work, and `to` moves weights that `encode` reads.
        self._alone = threading.RLock()
        self.fingerprint = address(
            clip_l=clip_l.identity,
            clip_g=clip_g.identity,
            t5=t5.identity if t5 else None,
            t5_length=repr(t5_length),
            joint_dim=joint_dim,
            dtype=str(row_dtype),
            **({"clip_chunks": clip_chunks} if clip_chunks > 1 else {}),
        )

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        joint_dim: int,
        t5_length: T5Length,
        clip_chunks: int = 1,
        dtype: torch.dtype = torch.float32,
        row_dtype: torch.dtype = torch.bfloat16,
        with_t5: bool = True,
    ) -> SD3TextTower:
        """From the folders `text_encoder{,_2,_3}` and `tokenizer{,_2,_3}` of a diffusers pipeline; without `text_encoder_3`
        there is no T5."""
        from transformers import CLIPTextModelWithProjection, CLIPTokenizer, T5EncoderModel, T5TokenizerFast

        folder = Path(folder)
        if not (folder / "text_encoder").is_dir():
            raise ConfigError(
                f"no text encoders in '{folder}'",
                where="model.text",
                do="give a diffusers SD3 pipeline folder: text_encoder, text_encoder_2, text_encoder_3 and their tokenizers",
            )

        def clip(suffix: str) -> Clip:
            part = folder / f"text_encoder{suffix}"
            model = load_whole(CLIPTextModelWithProjection, part, dtype=dtype)
            tokenizer = CLIPTokenizer.from_pretrained(folder / f"tokenizer{suffix}", local_files_only=True)
            return Clip(model, tokenizer, weights=hash_files(weight_files(part)))

        clip_l, clip_g = clip(""), clip("_2")  # before the large one: a wrong folder is told at once
        t5, part = None, folder / "text_encoder_3"
        if with_t5 and part.is_dir():
            model = load_whole(T5EncoderModel, part, dtype=dtype)
            tokenizer = T5TokenizerFast.from_pretrained(folder / "tokenizer_3", local_files_only=True)
            t5 = T5(model, tokenizer, length=t5_length, weights=hash_files(weight_files(part)))
        return cls(
            clip_l, clip_g, t5, joint_dim=joint_dim, t5_length=t5_length, clip_chunks=clip_chunks, row_dtype=row_dtype
        )

    def save(self, folder: str | Path) -> None:
        """Into the folders that `load` and a diffusers pipeline read."""
        folder = Path(folder)
        for suffix, part in (("", self.clip_l), ("_2", self.clip_g), ("_3", self.t5)):
            if part is not None:
                part.model.save_pretrained(folder / f"text_encoder{suffix}")
                part.tokenizer.save_pretrained(folder / f"tokenizer{suffix}")

    def encode(self, captions: Sequence[str]) -> list[TextRow]:
        """One row per caption, on the CPU, in `row_dtype`. Equal captions are computed once, and what is computed beside
        which other does not depend on the order they are given in."""
        different = sorted(set(captions))
        rows: dict[str, dict[str, Tensor]] = {caption: {} for caption in different}
        with self._alone, Returning(self.row_dtype) as returning:
            cut = [self._cut([(caption, 1.0)])[1] for caption in different] if self.clip_chunks > 1 else []
            lengths = [len(chunks) for chunks, _ in cut] if cut else [1] * len(different)
            for places in groups(lengths, most=self.captions_at_once):
                some = [rows[different[place]] for place in places]
                for which, (letter, clip) in enumerate((("l", self.clip_l), ("g", self.clip_g))):
                    if cut:
                        states, pooled = clip.read_chunks([cut[place][which] for place in places])
                    else:
                        states, pooled = clip([different[place] for place in places])
                    returning.add(states, partial(_put, some, f"clip_{letter}"))
                    returning.add(pooled, partial(_put, some, f"pooled_{letter}"))
            if self.t5:
                self._encode_t5(self.t5, [rows[caption] for caption in different], different, returning)
        return [rows[caption] for caption in captions]

    def encode_weighted(self, prompts: Sequence[Prompt]) -> list[TextRow]:
        """As `encode`, with emphasis: every token's state is drawn away from the empty prompt's state at its place, or towards it,
        in each encoder by itself; pooled vectors have no tokens and stay as they are. Each prompt is encoded alone."""
        return [self._weighted(prompt) for prompt in prompts]

    def collate(self, rows: Sequence[TextRow], *, drop: Sequence[frozenset[str]] | None = None) -> Conditioning:
        """`text [B, Lc + Lt, joint]` and `pooled [B, P]`; `text_mask` (bool `[B, Lc + Lt]`) only where lengths differ. A row's
        tokens stand at the front, CLIP's before T5's, and zeros behind them."""
        dropped = drop if drop is not None else [frozenset()] * len(rows)
        self._check_drop(rows, dropped)
        rows = [_without(row, names) for row, names in zip(rows, dropped, strict=True)]
        pooled = torch.stack([torch.cat([row["pooled_l"], row["pooled_g"]]) for row in rows])
        texts = [self._joint(row) for row in rows]
        lengths = torch.tensor([len(text) for text in texts])
        longest = int(lengths.max())
        text = torch.stack([F.pad(text, (0, 0, 0, longest - len(text))) for text in texts])
        tensors = {"text": text, "pooled": pooled}
        if int(lengths.min()) < longest:
            tensors["text_mask"] = torch.arange(longest)[None, :] < lengths[:, None]
        return Conditioning(tensors)

    def num_tokens(self, caption: str) -> Mapping[str, tuple[int, int]]:
        """Per encoder: (tokens of the caption with its start and end, tokens that are kept). Start and end count once, in however
        many pieces a CLIP reads the caption."""
        with self._alone:
            if self.clip_chunks > 1:
                whole, kept = self._cut([(caption, 1.0)])
                sums = [[sum(map(len, chunks)) + 2 for chunks in both] for both in (whole, kept)]
                counts = dict(zip(PARTS[:2], zip(*sums, strict=True), strict=True))
            else:
                clips = {"clip_l": self.clip_l, "clip_g": self.clip_g}
                counts = {name: (clip.num_tokens(caption), clip.length) for name, clip in clips.items()}
            if self.t5:
                counts["t5"] = (self.t5.num_tokens(caption), self.t5_length.limit)
        return {name: (tokens, min(tokens, limit)) for name, (tokens, limit) in counts.items()}

    def sizes(self) -> dict[str, int]:
        """Parameters per encoder."""
        parts = {"clip_l": self.clip_l, "clip_g": self.clip_g, "t5": self.t5}
        return {name: sum(p.numel() for p in part.model.parameters()) for name, part in parts.items() if part}

    def to(self, device: torch.device | str) -> SD3TextTower:
        """Move the encoders, when no `encode` is under way in another thread."""
        with self._alone:
            for part in (self.clip_l, self.clip_g, self.t5):
                if part is not None:
                    part.model.to(device)
        return self

    @property
    def device(self) -> torch.device:
        return torch.device(self.clip_l.model.device)

    def _cut(self, prompt: Prompt) -> tuple[list[Chunks], list[Chunks]]:
        """The pieces of a prompt for CLIP-L and for CLIP-G: all of them, and those that are read. Both CLIPs read as many, since
        their states stand side by side."""
        whole = [clip.cut(prompt) for clip in (self.clip_l, self.clip_g)]
        most = min(self.clip_chunks, *map(len, whole))
        return whole, [chunks[:most] for chunks in whole]

    def _joint(self, row: TextRow) -> Tensor:
        """One row's tokens `[Lc + Lt, joint]`: the CLIPs side by side with zeros up to the joint width, then T5."""
        clip = torch.cat([row["clip_l"], row["clip_g"]], dim=-1)
        clip = F.pad(clip, (0, self.joint_dim - clip.shape[-1]))
        t5 = row["t5"] if self.t5 else clip.new_zeros(self.t5_length.null, self.joint_dim)
        return torch.cat([clip, t5])

    def _encode_t5(
        self, t5: T5, rows: Sequence[dict[str, Tensor]], captions: Sequence[str], returning: Returning
    ) -> None:
        """Captions of one length together, so that no caption is padded for another's sake."""
        ids = [t5.token_ids(caption) for caption in captions]
        for places in groups([len(each) for each in ids], most=self.captions_at_once):
            states = t5([ids[place] for place in places])
            returning.add(states, partial(_put, [rows[place] for place in places], "t5"))

    def _weighted(self, prompt: Prompt) -> TextRow:
        if len(prompt) == 1 and prompt[0][1] == 1.0:
            return self.encode([prompt[0][0]])[0]
        row: dict[str, Tensor] = {}
        with self._alone:
            cut = self._cut(prompt)[1] if self.clip_chunks > 1 else None
            for which, (letter, clip) in enumerate((("l", self.clip_l), ("g", self.clip_g))):
                states, pooled = clip.weighted_chunks(cut[which]) if cut else clip.weighted(prompt)
                row[f"clip_{letter}"], row[f"pooled_{letter}"] = self._stored(states), self._stored(pooled)
            if self.t5:
                row["t5"] = self._stored(self.t5.weighted(prompt))
        return row

    def _stored(self, features: Tensor) -> Tensor:
        return features.to(self.row_dtype).cpu()

    def _check_drop(self, rows: Sequence[TextRow], drop: Sequence[frozenset[str]]) -> None:
        unknown = frozenset().union(*drop) - set(PARTS) if drop else frozenset()
        if unknown or len(drop) != len(rows):
            raise ConfigError(
                f"cannot drop {sorted(unknown)} from {len(rows)} rows with {len(drop)} choices",
                do=f"give one set per row, with names among {', '.join(PARTS)}",
            )


def _without(row: TextRow, names: frozenset[str]) -> TextRow:
    """The row with zeros for the dropped encoders: their part of the sequence and their part of the pooled vector."""
    gone = set(names) | {name.replace("clip", "pooled") for name in names}
    return {name: torch.zeros_like(tensor) if name in gone else tensor for name, tensor in row.items()}


def _put(rows: Sequence[dict[str, Tensor]], name: str, features_B: Tensor) -> None:
    """Each row its part of a group's features, in memory of its own."""
    for row, features in zip(rows, features_B, strict=True):
        row[name] = features.clone()

"""Tokenizers made from a word list, in the formats of CLIP and T5. Knows strings; knows no encoder.

Every listed word is one token; every other string falls apart into pieces and characters. transformers' own `CLIPTokenizer` and
`T5TokenizerFast` load what `save_pretrained` writes.
"""

from __future__ import annotations

import itertools
import string
from collections.abc import Iterable, Sequence
from typing import Any

from tokenizers import pre_tokenizers
from transformers import CLIPTokenizer, T5TokenizerFast

END = "</w>"


def clip_tokenizer(words: Iterable[str], *, length: int) -> Any:
    """A byte-level BPE whose merges build every word (lower case, cut as CLIP cuts: digits and punctuation stand alone)."""
    cut = CLIPTokenizer().backend_tokenizer
    texts = (cut.normalizer.normalize_str(word) for word in words)
    pieces = sorted({piece for text in texts for piece, _ in cut.pre_tokenizer.pre_tokenize_str(text)})
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = bpe_merges(pieces)
    joined = dict.fromkeys(first + second for first, second in merges)
    tokens = [*alphabet, *(letter + END for letter in alphabet), *joined, "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={token: index for index, token in enumerate(tokens)}, merges=list(merges), model_max_length=length
    )


def bpe_merges(pieces: Sequence[str]) -> list[tuple[str, str]]:
    """Merges, most important first, under which every piece becomes one token.

    A new merge goes to the end of the list, so it acts only where nothing else can, and pieces that were whole stay whole.
    """
    rank: dict[tuple[str, str], int] = {}
    for piece in pieces:
        parts = bpe(piece, rank)
        while len(parts) > 1:
            rank[parts[0], parts[1]] = len(rank)
            parts = bpe(piece, rank)
    return list(rank)


def bpe(piece: str, rank: dict[tuple[str, str], int]) -> list[str]:
    """Byte pair encoding of one piece: merge the pair of lowest rank, everywhere, until none is left."""
    parts = [*piece[:-1], piece[-1] + END]
    while True:
        best = min(itertools.pairwise(parts), key=lambda pair: rank.get(pair, len(rank)), default=None)
        if best is None or best not in rank:
            return parts
        merged, position = [], 0
        while position < len(parts):
            pair = tuple(parts[position : position + 2])
            merged.append("".join(pair) if pair == best else parts[position])
            position += 2 if pair == best else 1
        parts = merged


def t5_tokenizer(words: Iterable[str], *, length: int) -> Any:
    """A Unigram model in which a word costs less than its letters; T5 is case-sensitive, so capitalised words are listed too."""
    listed = sorted({part for word in words for part in word.split()})
    whole = dict.fromkeys(form for word in listed for form in (word, word.capitalize()))
    letters = sorted(set(string.printable.strip()) | {letter for word in listed for letter in word})
    scores = {"<pad>": 0.0, "</s>": 0.0, "<unk>": 0.0}
    scores |= dict.fromkeys(["▁", *letters], -10.0)
    scores |= dict.fromkeys(whole, -2.0)  # inside brackets or quotes
    scores |= {f"▁{word}": -1.0 for word in whole}
    return T5TokenizerFast(vocab=list(scores.items()), extra_ids=0, model_max_length=length)

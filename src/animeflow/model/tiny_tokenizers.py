"""Tokenizers made from a word list, in the formats of CLIP, T5 and Qwen. Knows strings; knows no encoder and no family.

Every listed word is one token; every other string falls apart into pieces and characters. transformers' own `CLIPTokenizer`,
`T5TokenizerFast` and `Qwen2Tokenizer` load what `save_pretrained` writes.
"""

from __future__ import annotations

import itertools
import string
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tokenizers import pre_tokenizers
from transformers import CLIPTokenizer, Qwen2Tokenizer, T5TokenizerFast

END = "</w>"
QWEN_PAD = "<|endoftext|>"


def default_words() -> list[str]:
    """Every word that toonworld's captions use."""
    from ..toonworld.describe import vocabulary

    return list(vocabulary())


def clip_tokenizer(words: Iterable[str], *, length: int) -> Any:
    """A byte-level BPE whose merges build every word (lower case, cut as CLIP cuts: digits and punctuation stand alone)."""
    cut = CLIPTokenizer().backend_tokenizer

    def pieces(texts: Iterable[str]) -> list[str]:
        """What CLIP's rules make of the texts, spelled in bytes."""
        clean = (cut.normalizer.normalize_str(text) for text in texts)
        return sorted({piece for text in clean for piece, _ in cut.pre_tokenizer.pre_tokenize_str(text)})

    listed = list(words)
    whole = [(*piece[:-1], piece[-1] + END) for piece in pieces(listed)]
    # Chinese and Japanese are written without spaces: there a listed character has to be whole inside a run as well.
    inner = [tuple(piece) for piece in pieces(word for word in listed if len(word) == 1 and not word.isascii())]
    merges = bpe_merges([*inner, *whole])
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    joined = dict.fromkeys(first + second for first, second in merges)
    tokens = [*alphabet, *(letter + END for letter in alphabet), *joined, "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={token: index for index, token in enumerate(tokens)}, merges=list(merges), model_max_length=length
    )


def bpe_merges(spellings: Iterable[Sequence[str]]) -> list[tuple[str, str]]:
    """Merges, most important first, under which every spelling becomes one token.

    A new merge goes to the end of the list, so it acts only where nothing else can, and what was whole stays whole.
    """
    rank: dict[tuple[str, str], int] = {}
    for spelling in spellings:
        parts = bpe(spelling, rank)
        while len(parts) > 1:
            rank[parts[0], parts[1]] = len(rank)
            parts = bpe(spelling, rank)
    return list(rank)


def bpe(spelling: Sequence[str], rank: Mapping[tuple[str, str], int]) -> list[str]:
    """Byte pair encoding of one spelling: merge the pair of lowest rank, everywhere, until none is left."""
    parts = list(spelling)
    while True:
        best = min(itertools.pairwise(parts), key=lambda pair: rank.get(pair, len(rank)), default=None)
        if best is None or best not in rank:
            return parts
        merged, position = [], 0
        while position < len(parts):
            together = tuple(parts[position : position + 2]) == best
            merged.append("".join(best) if together else parts[position])
            position += 2 if together else 1
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


def qwen_tokenizer(words: Iterable[str]) -> Any:
    """A byte-level BPE without start or end token, whose merges build every word with and without a space before it."""
    cut = Qwen2Tokenizer().backend_tokenizer
    listed = [form for word in words for form in dict.fromkeys((word, word.capitalize()))]

    def pieces(texts: Iterable[str]) -> list[str]:
        """What Qwen's rules make of the texts, spelled in bytes."""
        clean = (cut.normalizer.normalize_str(text) for text in texts)
        return sorted({piece for text in clean for piece, _ in cut.pre_tokenizer.pre_tokenize_str(text)})

    inner = pieces(word for word in listed if len(word) == 1 and not word.isascii())
    whole = pieces(form for word in listed for form in (word, f" {word}"))
    merges = bpe_merges(map(tuple, [*inner, *whole]))
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *dict.fromkeys(first + second for first, second in merges)]
    return Qwen2Tokenizer(vocab={token: index for index, token in enumerate([*tokens, QWEN_PAD])}, merges=list(merges))

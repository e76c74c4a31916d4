r"""A prompt cut into what may be a tag and what is between: separators of every script, emphasis. Knows strings; knows no tag.

`join` of the pieces is the prompt again, byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

# A semicolon parts where a space follows: `;)` is a face.
_SEPARATOR = re.compile(r"\s*(?:[,，、､،؛；\n]|;(?=\s|$))[\s,，、､،؛；]*|[ ]*\u3000\s*")
# A weight is a number between a colon and the parenthesis that closes; an escaped parenthesis is text.
_MARK = re.compile(r"(?P<text>\\[()])|(?P<mark>:\s*[-+]?(?:\d+\.?\d*|\.\d+)\s*(?=\))|[()])")
_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])\s*")
_ASCII = re.compile(r"[\x00-\x7f]*")
SENTENCE_END = (".", "!", "?", "。", "！", "？")


@dataclass(frozen=True)
class Piece:
    """A stretch of a prompt: text that may be a tag, or a mark between texts."""

    text: str
    is_mark: bool = False


def join(pieces: Iterable[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


def cut(prompt: str, known: Callable[[str], bool], *, emphasis: bool = True) -> list[Piece]:
    """Pieces of a prompt, in order. What is `known` as it stands is not cut further: `:)`, `saber (fate)`."""
    pieces: list[Piece] = []
    start = 0
    if not emphasis:  # every parenthesis is itself
        known = _always
    for found in _SEPARATOR.finditer(prompt):
        pieces += _stretch(prompt[start : found.start()], known)
        pieces.append(Piece(found[0], is_mark=True))
        start = found.end()
    pieces += _stretch(prompt[start:], known)
    return [piece for piece in pieces if piece.text]


def _always(text: str) -> bool:
    return True


def plain_separator(mark: str) -> str:
    """A separator as every tokenizer reads it: `、` becomes `, `. Lines stay lines, and marks of ASCII as they are."""
    if _ASCII.fullmatch(mark):
        return mark
    return ",\n" if "\n" in mark else ", "


def _stretch(text: str, known: Callable[[str], bool]) -> Iterator[Piece]:
    body = text.strip()
    if body and known(body):
        yield from _bare(text)
        return
    ends = list(_END.finditer(text))
    if any(end.end() < len(text.rstrip()) for end in ends):  # sentences, one behind the other
        start = 0
        for end in ends:
            yield from _stretch_marks(text[start : end.start()])
            yield Piece(end[0], is_mark=True)
            start = end.end()
        yield from _stretch_marks(text[start:])
    else:
        yield from _stretch_marks(text)


def _stretch_marks(text: str) -> Iterator[Piece]:
    start = 0
    for found in _MARK.finditer(text):
        if found["mark"]:
            yield from _bare(text[start : found.start()])
            yield Piece(found[0], is_mark=True)
            start = found.end()
    yield from _bare(text[start:])


def _bare(text: str) -> Iterator[Piece]:
    """The text, and the spaces around it as marks."""
    body = text.strip()
    if not body:
        yield Piece(text, is_mark=True)
        return
    before, _, after = text.partition(body)
    yield from (Piece(before, is_mark=True), Piece(body), Piece(after, is_mark=True))

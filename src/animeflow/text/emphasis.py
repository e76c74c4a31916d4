"""Emphasis in prompts, read as ComfyUI reads it: `(smile:1.3)` to pieces with weights. Knows strings; knows no tokenizer.

What a weight does to a picture is each family's own affair; see `TextTower.encode_weighted`. Captions are never read this way:
in training text a parenthesis is a parenthesis.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

STEP = 1.1  # one pair of parentheses

_ATOM = re.compile(r"\\([()])|(.)", re.DOTALL)
_ESCAPED = re.compile(r"\\([()])")
_PARENTHESIS = re.compile(r"[()]")

Atom = tuple[str, int]
"""A character, and what it does to the depth: 1 for a `(` that opens, -1 for a `)` that closes, 0 for text."""


def parse(prompt: str) -> list[tuple[str, float]]:
    r"""Pieces of plain text in order, each with its weight; never empty, so an empty prompt is one empty piece.

    `(x)` multiplies by 1.1 and nests. `(x:w)` sets `w`, whatever surrounds it. Where the right side of the last colon is no
    number, the colon is text. `\(` and `\)` are text, and so are brackets, `@` and a backslash before anything else.

    Parentheses that do not pair are read as ComfyUI reads them: one that stays open is text, and so is one too many that
    closes, which then also takes the next one that opens. One difference: ComfyUI takes `(x:nan)` and `(x:inf)` for weights;
    here they are text, for no picture comes of such features.
    """
    pieces: list[tuple[str, float]] = []
    pending = [(span, 1.0) for span in reversed(_spans(_atoms(prompt)))]
    while pending:
        span, weight = pending.pop()
        if len(span) > 1 and span[0][1] > 0 and span[-1][1] < 0:
            inside, own = _own_weight(span[1:-1])
            weight = weight * STEP if own is None else own
            pending += [(part, weight) for part in reversed(_spans(inside))]
        else:
            pieces.append((_text(span), weight))
    return pieces or [("", 1.0)]


def plain(prompt: str) -> str:
    """The words of a prompt without the marks of emphasis."""
    return "".join(text for text, _ in parse(prompt))


def escape(text: str) -> str:
    r"""Literal text as a prompt: `hatsune miku (vocaloid)` becomes `hatsune miku \(vocaloid\)`, which `parse` reads back."""
    return _PARENTHESIS.sub(r"\\\g<0>", text)


def unescape(text: str) -> str:
    r"""Text without escapes, emphasis untouched: the inverse of `escape`, for captions that were written as prompts."""
    return _ESCAPED.sub(r"\1", text)


def _atoms(prompt: str) -> list[Atom]:
    depth = {"(": 1, ")": -1}
    return [(m[1], 0) if m[1] else (m[2], depth.get(m[2], 0)) for m in _ATOM.finditer(prompt)]


def _spans(atoms: Iterable[Atom]) -> list[list[Atom]]:
    """Cut before each parenthesis that opens at depth 0 and after each that closes down to it. The depth may be negative."""
    spans: list[list[Atom]] = [[]]
    depth = 0
    for atom in atoms:
        if atom[1] > 0 and depth == 0:
            spans.append([])
        depth += atom[1]
        spans[-1].append(atom)
        if atom[1] < 0 and depth == 0:
            spans.append([])
    return [span for span in spans if span]


def _own_weight(inside: list[Atom]) -> tuple[list[Atom], float | None]:
    """What is in a pair of parentheses, and the number after its last colon; a colon in front of everything is text."""
    colon = max((index for index, (char, _) in enumerate(inside) if char == ":"), default=0)
    if colon == 0:
        return inside, None
    try:
        weight = float(_text(inside[colon + 1 :]))
    except ValueError:
        return inside, None
    return (inside[:colon], weight) if math.isfinite(weight) else (inside, None)


def _text(atoms: Iterable[Atom]) -> str:
    return "".join(char for char, _ in atoms)

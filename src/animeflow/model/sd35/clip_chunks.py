"""Where a long prompt is cut for an encoder of 77 places. Knows token ids; knows no tokenizer and no encoder.

The rule is ComfyUI's: every 75 tokens, wherever that falls, also within a tag or a word. Only where a prompt has emphasis does a
piece of one weight with fewer than eight tokens stay whole: it opens the next chunk. Each chunk has a start and an end of its own,
and what a chunk leaves empty is padding. (Its older versions took every word for such a piece.)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...core.errors import ConfigError

Token = tuple[int, float]
"""The id of a token and its weight."""

Chunks = list[list[Token]]
"""The tokens of every chunk, without start, end and padding; one at least, and that may be empty."""

LONG = 8  # tokens of a piece that may be cut


def check(most: int, *, length: int) -> None:
    """Raises ConfigError where an encoder of `length` places cannot read a caption in up to `most` chunks."""
    if most < 1 or (most > 1 and length < 3):
        raise ConfigError(
            f"{most} pieces of a caption for CLIPs of {length} tokens",
            where="model.clip_chunks",
            do="1 is CLIP's own length; 2 or 3 read longer captions, as ComfyUI does",
        )


def chunks(pieces: Iterable[Sequence[Token]], *, room: int) -> Chunks:
    """Pieces of a prompt, each of one weight, to chunks of at most `room` tokens, in order, none left out."""
    filled: Chunks = [[]]
    for piece in pieces:
        left, may_be_cut = list(piece), len(piece) >= min(LONG, room + 1)
        while len(left) > (free := room - len(filled[-1])):
            if may_be_cut:
                filled[-1] += left[:free]
                left = left[free:]
            filled.append([])
        filled[-1] += left
    return filled

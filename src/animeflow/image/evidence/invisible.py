"""Messages that generators' scripts hide in the colours: the scheme `dwtDct` of the package invisible-watermark. Knows pixels.

The plane U of YUV is averaged over 2x2 pixels (the low band of Haar's wavelet, twice the mean); of every 4x4 block of that, the
largest value beside the first one was moved to 1/4 or 3/4 of a step of 36. Blocks carry the message's bits by turns, row by row,
so every bit has as many votes as the picture has blocks of its number.

Scripts that mark 8-bit pictures see U around 128, those that mark floating ones around 1/2, where the largest value is the one
farthest from grey: both are read. A mark outlives no resize, no crop and no lossy file that halves the colours.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from ..picture import Picture, Pixels
from .sign import Sign

STEP = 36
LEAST_PIXELS = 256 * 256  # what the scheme's own encoder asks for
MOST_PIXELS = (
    1 << 20
)  # of the rows that are looked at: 16,384 blocks, 73 and more for a bit; further ones cost time only
GREY = 255.0  # twice 127.5: where the floating plane has its zero
CHANCE = 1e-12  # that one message is found in a picture by accident, at most, where its length allows it

Bits = NDArray[np.bool_]


def _text(message: str) -> tuple[int, ...]:
    return tuple(np.unpackbits(np.frombuffer(message.encode(), np.uint8)).tolist())


def _digits(message: str) -> tuple[int, ...]:
    return tuple(map(int, message))


@dataclass(frozen=True)
class Message:
    """What a script hides, as bits, and whose script it is."""

    tool: str
    bits: tuple[int, ...]

    @property
    def errors(self) -> int:
        """Wrong bits that are borne, as many as keep the chance of an accident below CHANCE; none in the shortest message."""
        return _borne(len(self.bits))


@cache
def _borne(length: int) -> int:
    ways, total, errors = 1, 1, -1  # ways to place one more wrong bit; all up to it
    while total <= CHANCE * 2**length:
        errors += 1
        ways = ways * (length - errors) // (errors + 1)
        total += ways
    return max(errors, 0)


def chance(message: Message) -> float:
    """That the bits of a picture, whatever they are, come this near to a message that was drawn at random."""
    length, ways, total = len(message.bits), 1, 0
    for errors in range(message.errors + 1):
        total += ways
        ways = ways * (length - errors) // (errors + 1)
    return total / 2**length


# From the scripts themselves: CompVis and runwayml (V1), Stability's stablediffusion (SDV2) and generative-models, as in diffusers
# (48 bits), Black Forest Labs' flux (its 48 bits begin with two zeros, which Python's bin() drops), InvokeAI.
MESSAGES = (
    Message("Stable Diffusion 1", _text("StableDiffusionV1")),
    Message("Stable Diffusion 1", _text("StableDiffusionV1-Inpainting")),
    Message("Stable Diffusion 2", _text("SDV2")),
    Message("Stable Diffusion XL", _digits("101100111110110010010000011110111011000110011110")),
    Message("FLUX", _digits("1010101111111010000111100111001111010100101110")),
    Message("FLUX", _digits("001010101111111010000111100111001111010100101110")),
    Message("InvokeAI", _text("InvokeAI")),
)


def invisible(picture: Picture) -> list[Sign]:
    """The messages in a picture as it was stored; nothing where it was turned."""
    if picture.facts.orientation != 1:
        return []
    found: dict[str, Sign] = {}
    for votes in blocks(picture.pixels):
        for message in MESSAGES:
            bits = decoded(votes, len(message.bits))
            wrong = len(message.bits) if bits is None else int((bits != np.array(message.bits, bool)).sum())
            if wrong <= message.errors:
                detail = f"{len(message.bits) - wrong} of {len(message.bits)} bits"
                found.setdefault(message.tool, Sign("certain", "ai", "invisible_watermark", message.tool, detail))
    return list(found.values())


def blocks(pixels: Pixels) -> tuple[Bits, ...]:
    """The bit that every block says, row by row, read as an 8-bit picture's and as a floating one's; none of small pictures."""
    height, width = pixels.shape[:2]
    if height * width < LEAST_PIXELS or min(height, width) < 8:
        return ()
    rows = min(height, max(8, MOST_PIXELS // width)) // 8 * 8
    plane = cv2.extractChannel(cv2.cvtColor(pixels[:rows, : width // 8 * 8], cv2.COLOR_RGB2YUV), 1)
    low = cv2.resize(plane.astype(np.float32), (width // 8 * 4, rows // 2), interpolation=cv2.INTER_AREA) * 2
    return _bits(low), _bits(np.abs(low - GREY))


def _bits(low: NDArray[np.float32]) -> Bits:
    """Whether the largest value of each block, beside its first one, lies in the upper half of its step."""
    low[::4, ::4] = 0
    down = low.reshape(-1, 4, low.shape[1]).max(1)
    largest = down.reshape(len(down), -1, 4).max(2)
    return np.asarray(largest.ravel() % STEP > STEP / 2)


def decoded(votes: Bits, length: int) -> Bits | None:
    """The message of `length` bits that most votes are for; None where not every bit has one."""
    if len(votes) < length:
        return None
    rounds, more = divmod(len(votes), length)
    ones = votes[: rounds * length].reshape(rounds, length).sum(0, dtype=np.int64)
    ones[:more] += votes[rounds * length :]
    count = rounds + (np.arange(length) < more)
    return np.asarray(ones * 255 > 127 * count)  # the scheme's own threshold, a hair below a half

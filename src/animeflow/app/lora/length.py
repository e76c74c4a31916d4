"""How long to train, how much to hold out, how often to look: numbers from the number of pictures. Knows integers.

1500 to 3000 views of a concept and 60 to 100 of a picture are what guides for character LoRAs agree on: habits, not measurements of
ours. `train.images=N` says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil

from ...catalogue.split import split_of

VIEWS = 80  # of a picture
LEAST, MOST = 1500, 3000  # views of a concept
AGAIN = 10  # views of a picture of a large set, which would otherwise see less
STEPS = 600  # at least
HELD_OUT = 12  # pictures from which on three are held out


def views(pictures: int) -> int:
    """Of one concept with so many pictures."""
    return max(min(max(VIEWS * pictures, LEAST), MOST), AGAIN * pictures)


def images(counts: Sequence[int], *, batch: int) -> int:
    """Of a whole run over concepts of so many pictures: a multiple of the batch."""
    return round_up(max(sum(map(views, counts)), STEPS * batch), batch)


def round_up(number: float, batch: int) -> int:
    return max(1, ceil(number / batch)) * batch


def repeats(counts: Mapping[str, int]) -> dict[str, int]:
    """How often the pictures of each concept are seen while those of the largest are seen once, so that all are learned alike."""
    most = max(counts.values())
    return {name: times for name, count in counts.items() if (times := round(most / count)) > 1}


def held_out(pictures: int) -> int:
    """Pictures for validation: a tenth and at least three of twelve or more, one of six or more, none of fewer."""
    if pictures >= HELD_OUT:
        return max(3, round(pictures / 10))
    return 1 if pictures >= 6 else 0


def val_share(uids: Sequence[int], wanted: int) -> float:
    """The smallest share, in thousandths, with which at least `wanted` of these pictures are held out: who is held out is decided
    by hash, so a share alone would hold out more or fewer, or none."""
    if not wanted:
        return 0.0
    low, high = 0, 1000
    while low < high:  # a larger share keeps all of a smaller one's
        middle = (low + high) // 2
        if sum(split_of(uid, middle / 1000) == "val" for uid in uids) >= wanted:
            high = middle
        else:
            low = middle + 1
    return low / 1000


def split(uids: Sequence[int], share: float) -> int:
    """How many of these are held out."""
    return sum(split_of(uid, share) == "val" for uid in uids)

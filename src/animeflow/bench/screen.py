"""What a picture costs when it is catalogued: hashing, decoding, fingerprint, signs of origin, measures; and four million of them.
Knows drawn pictures; no catalogue.

Every part is measured alone, by turns, in seconds of the processor, so that the sum can be divided by cores.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from ..image import ways
from ..image.decode import decode
from ..image.encode import encode_png
from ..image.evidence.screen import measures, screen
from ..image.fingerprint import fingerprint
from .images import drawn
from .rounds import by_turns, median

log = logging.getLogger(__name__)

SET = 4_000_000  # pictures
SIZES = {"jpeg of 4.2 MP": (2400, 1750), "png of 1.0 MP": (1152, 896)}


def run(config: Mapping[str, Any], *, against: str | None = None, rounds: int = 5) -> dict[str, Any]:
    return measure(rounds=rounds)


def measure(*, count: int = 3, sizes: Mapping[str, tuple[int, int]] = SIZES, rounds: int = 5) -> dict[str, Any]:
    """Milliseconds of one core for each part of a picture's way into the catalogue, for `count` drawn pictures of each kind."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        kinds = {name: _kind(name, size, count, rounds) for name, size in sizes.items()}
    finally:
        torch.set_num_threads(threads)
    return {
        "bench": "screen",
        "settings": {"pictures": count, "sizes": {n: list(s) for n, s in sizes.items()}, "rounds": rounds},
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "kinds": kinds,
    }


def _kind(name: str, size: tuple[int, int], count: int, rounds: int) -> dict[str, Any]:
    encode = ways.encode_jpeg if name.startswith("jpeg") else encode_png
    files = [encode(drawn(number, *size)) for number in range(count)]
    log.info("screen: %d pictures, %s, %d rounds", count, name, rounds)
    rates = by_turns(_parts(files), rounds=rounds)
    parts = {part: round(1000 / median(rates, part), 2) for part in rates}
    total = sum(parts.values())
    return {
        "bytes_per_picture": sum(map(len, files)) // count,
        "milliseconds": parts | {"all": round(total, 2)},
        "pictures_per_core_second": round(1000 / total, 1),
        "core_hours_of_4M": round(SET * total / 3.6e6, 1),
    }


def _parts(files: Sequence[bytes]) -> dict[str, Callable[[], int]]:
    pictures = [decode(data) for data in files]
    pairs = list(zip(files, pictures, strict=True))

    def over(work: Callable[..., Any], items: Sequence[Any]) -> Callable[[], int]:
        return lambda: len([work(item) for item in items])

    return {
        "sha256": over(lambda data: hashlib.sha256(data).hexdigest(), files),
        "decode": over(decode, files),
        "fingerprint": over(fingerprint, pictures),
        "signs": over(lambda pair: screen(*pair), pairs),
        "measures": over(measures, pictures),
    }

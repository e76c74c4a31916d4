"""Find the candidates of many synthetic fingerprints, and print JSON: seconds, memory, and how many planted pairs were found.

    python benchmarks/dedup_scale.py [PICTURES]

Codes are drawn from a skewed distribution, as real ones are: some spots (an eye, a letter) are in very many pictures. One picture
in ten is a copy of another one: a third of its landmarks are lost, and every sign of the others is flipped with a chance of 4 %.
"""

from __future__ import annotations

import json
import resource
import sys
import time

import numpy as np

from animeflow.curate.candidates import candidates
from animeflow.curate.prints import Prints
from animeflow.image.landmarks import COUNT, LANDMARK

COMMON = 20_000  # codes that come back
COMMON_SHARE = 0.15  # of all landmarks
COPIES = 0.1
LOST, FLIPPED = 1 / 3, 0.04


def drawn(pictures: int, seed: int = 0) -> tuple[Prints, np.ndarray]:
    """Fingerprints, and the planted pairs `[M, 2]`."""
    rng = np.random.default_rng(seed)
    spots = np.zeros(pictures * COUNT, LANDMARK)
    spots["code"] = rng.integers(0, 2**64, len(spots), np.uint64)
    common = rng.integers(0, 2**64, COMMON, np.uint64)
    often = rng.random(len(spots)) < COMMON_SHARE
    which = (COMMON * rng.random(int(often.sum())) ** 3).astype(np.int64)  # the first ones most often
    spots["code"][often] = common[which]
    for name in ("x", "y"):
        spots[name] = rng.integers(0, 256, len(spots))
    spots["size"] = rng.integers(8, 80, len(spots))
    whole = rng.integers(0, 2**64, pictures, np.uint64)
    table = spots.reshape(pictures, COUNT)
    copies = np.arange(pictures - int(COPIES * pictures), pictures)
    originals = rng.permutation(pictures - len(copies))[: len(copies)]
    for at in range(0, len(copies), 10_000):
        some = slice(at, at + 10_000)
        taken = table[originals[some]].copy()
        flips = np.zeros(taken.shape, np.uint64)
        for bit in range(64):
            flips |= (rng.random(taken.shape) < FLIPPED).astype(np.uint64) << np.uint64(bit)
        kept = rng.random(taken.shape) >= LOST
        taken["code"] ^= flips
        table[copies[some]] = np.where(kept, taken, table[copies[some]])
    pixels = np.arange(pictures, dtype="<u8").repeat(2).view("V16")
    starts = np.arange(pictures + 1, dtype=np.int64) * COUNT
    prints = Prints(np.arange(pictures), pixels, whole, whole, table.reshape(-1), starts)
    return prints, np.stack([originals, copies], 1)


def main() -> None:
    pictures = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    prints, planted = drawn(pictures)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started, cpu = time.perf_counter(), time.process_time()
    pairs = candidates(prints)
    found = np.isin(planted[:, 0] * pictures + planted[:, 1], pairs[:, 0] * pictures + pairs[:, 1])
    told = {
        "pictures": pictures,
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "prints_mb": round((prints.landmarks.nbytes + 40 * pictures) / 1e6),
        "mb_before": round(before / 1024),
        "mb_most": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "pairs": len(pairs),
        "planted": len(planted),
        "found_share": round(float(found.mean()), 4),
    }
    print(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()

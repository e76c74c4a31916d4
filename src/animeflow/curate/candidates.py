"""Which pairs of a set may be one drawing: found by equal pieces of their hashes, never by comparing all with all. Knows hashes;
opens no picture, and decides nothing: a candidate is worth a look.

Every hash is cut into keys; the keys of a band are sorted, and pictures that share a key are neighbours. A key grows by a bit when
the set doubles, so that chance meetings stay as many as there are pictures.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..image.landmarks import shared
from .prints import Prints

Pairs = NDArray[np.int64]  # [M, 2], first < second
Keys = NDArray[np.uint64]

NEAR = 6  # bits of 64 by which two perceptual hashes of one drawing may differ
SHARED = 3  # landmarks that agree on a scale and a shift
WIDE = 12  # pictures that share a key are all paired up to so many
CHAIN = 2  # neighbours that a picture gets under a key that more have
MET = 24  # of those whom a picture shares most keys with, so many are compared by their landmarks
LOOKED_AT = 4  # and so many of those who have most landmarks in common are looked at
SMALL = 20_000  # pictures up to which one shared key is worth a look
TWO = 4  # keys that it takes above: one landmark gives three at most
PART = 1 << 22  # keys sorted at a time


def candidates(prints: Prints, *, part: int = PART) -> Pairs:
    """Pairs of indices, sorted. Of pictures with equal pixels only the first takes part."""
    alone = np.flatnonzero(prints.first_of_pixels() == np.arange(len(prints)))
    if len(alone) < 2:
        return np.zeros((0, 2), np.int64)
    return np.unique(np.concatenate([_by_hash(prints, alone, part), _by_landmarks(prints, alone, part)]), axis=0)


def _by_hash(prints: Prints, alone: NDArray[np.int64], part: int) -> Pairs:
    found = [np.zeros((0, 2), np.int64)]
    bits = int(np.clip(np.ceil(np.log2(len(alone))) + 1, 12, 32))
    bits = 64 // (64 // bits)
    for hashes in (prints.whole[alone], prints.content[alone]):
        for band in range(64 // bits):
            keys = (hashes << np.uint64(band * bits)) >> np.uint64(64 - bits)
            for pairs in _neighbours(keys, alone, part):
                kept = pairs[_distance(prints, pairs) <= NEAR]
                found.append(kept)
    return np.unique(np.concatenate(found), axis=0)


def _distance(prints: Prints, pairs: Pairs) -> NDArray[np.uint8]:
    """The smaller of the distances of both hashes."""
    a, b = pairs[:, 0], pairs[:, 1]
    whole = np.bitwise_count(prints.whole[a] ^ prints.whole[b])
    return np.asarray(np.minimum(whole, np.bitwise_count(prints.content[a] ^ prints.content[b])))


def _by_landmarks(prints: Prints, alone: NDArray[np.int64], part: int) -> Pairs:
    """Pairs that share a key of a landmark, or two where there are many pictures, and whose landmarks lie alike."""
    counts = np.diff(prints.starts)
    taken = np.zeros(len(prints), bool)
    taken[alone] = True
    owners = np.repeat(np.arange(len(prints), dtype=np.int32), counts)
    mine = np.repeat(taken, counts)
    codes, owners = prints.landmarks["code"][mine], owners[mine]
    if not len(codes):
        return np.zeros((0, 2), np.int64)
    bits = int(np.clip(np.ceil(np.log2(len(codes))) + 3, 20, 40))
    met = [np.zeros(0, np.uint64)]
    for keys in _bands(codes, bits):
        for pairs in _neighbours(keys, owners, part):
            met.append((pairs[:, 0].astype(np.uint64) << np.uint64(32)) | pairs[:, 1].astype(np.uint64))
    least = 1 if len(alone) <= SMALL else TWO
    packed, votes = np.unique(np.concatenate(met), return_counts=True)
    packed = packed[votes >= least]
    votes = votes[votes >= least]
    pairs = np.stack([packed >> np.uint64(32), packed & np.uint64(0xFFFFFFFF)], 1).astype(np.int64)
    pairs = pairs[_nearest(pairs, votes, MET)]
    agree = np.array([shared(prints.landmarks_of(a), prints.landmarks_of(b)) for a, b in pairs], np.int64)
    pairs, agree = pairs[agree >= SHARED], agree[agree >= SHARED]
    return pairs[_nearest(pairs, agree, LOOKED_AT)]


def _nearest(pairs: Pairs, weight: NDArray[np.int64], most: int) -> NDArray[np.bool_]:
    """Which pairs are among the `most` weightiest of one of their two. Pictures drawn from templates have something in common with
    hundreds of others; the same drawing has the most."""
    owner = np.concatenate([pairs[:, 0], pairs[:, 1]])
    other = np.concatenate([pairs[:, 1], pairs[:, 0]])
    order = np.lexsort((other, -np.tile(weight, 2), owner))
    owner = owner[order]
    begins = np.flatnonzero(np.concatenate([[True], owner[1:] != owner[:-1]]))
    lengths = np.diff(np.append(begins, len(owner)))
    place = np.arange(len(owner)) - np.repeat(begins, lengths) if len(owner) else np.zeros(0, np.int64)
    kept = np.zeros(2 * len(pairs), bool)
    kept[order] = place < most
    return kept[: len(pairs)] | kept[len(pairs) :]


def _bands(codes: Keys, bits: int) -> Iterator[Keys]:
    """Three ways to take `bits` signs of 64, the lowest frequencies most often: they are the steadiest."""
    half = bits // 2
    one = np.uint64(1)
    low = codes >> np.uint64(64 - half)
    next_half = (codes >> np.uint64(64 - 2 * half)) & ((one << np.uint64(half)) - one)
    third = (codes >> np.uint64(64 - 3 * half)) & ((one << np.uint64(half)) - one)
    for first, second in ((low, next_half), (low, third), (next_half, third)):
        yield (first << np.uint64(half)) | second


def _neighbours(keys: Keys, owners: NDArray[np.integer], part: int) -> Iterator[Pairs]:
    """Pairs of owners that share a key, once for every key they share. Of a key that many share, every owner is paired with
    the next ones only: they hang together all the same."""
    parts = -(-len(keys) // part)
    place = (keys * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)  # spreads keys evenly over the parts
    for k in range(parts):
        chosen = slice(None) if parts == 1 else np.flatnonzero(place % np.uint64(parts) == k)
        key, owner = keys[chosen], owners[chosen]
        order = np.lexsort((owner, key))
        key, owner = key[order], owner[order]
        begins = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
        many = np.repeat(np.diff(np.append(begins, len(key))) > WIDE, np.diff(np.append(begins, len(key))))
        for step in range(1, WIDE + 1):
            same = key[step:] == key[:-step]
            if not same.any():
                break
            if step > CHAIN:
                same &= ~many[step:]
            met = np.flatnonzero(same & (owner[step:] != owner[:-step]))
            yield np.stack([owner[met], owner[met + step]], 1)

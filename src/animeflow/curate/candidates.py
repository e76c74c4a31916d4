"""Which pairs of a set may be one drawing: found by equal pieces of their hashes, never by comparing all with all. Knows hashes;
opens no picture, and decides nothing: a candidate is worth a look.

Every hash is cut into keys; the keys of a band are sorted, and pictures that share a key are neighbours. A key grows by a bit when
the set doubles, so that chance meetings stay as many as there are pictures. A key and that of the mirrored picture, which follows
from it, are filed under the smaller of the two: one sorting finds both who is alike and who is alike in a mirror.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..image.fingerprint import NEAR, SPOTS
from ..image.landmarks import mirrored, shared
from ..image.perceptual import odd_columns
from .prints import Prints

Pairs = NDArray[np.int64]  # [M, 2], first < second
Keys = NDArray[np.uint64]
Mask = NDArray[np.bool_]

SHARED = 3  # landmarks that agree on a scale and a shift
WIDE = 12  # pictures that share a key are all paired up to so many
CHAIN = 2  # neighbours that a picture gets under a key that more have
MET = 24  # of those whom a picture shares most keys with, so many are compared by their landmarks
LOOKED_AT = 4  # and so many of those who have most landmarks in common are looked at
IN_MIRROR = 2  # and so many in the mirror
SMALL = 20_000  # pictures up to which one shared key is worth a look
TWO = 4  # keys that it takes above, and in the mirror: one landmark gives three at most
PART = 1 << 22  # keys sorted at a time, and meetings counted at a time
ODD = np.uint64(odd_columns())
TURNED = np.uint32(1 << 31)  # beside an owner: its key is that of the mirrored picture


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
            keys, turns = (
                (codes << np.uint64(band * bits)) >> np.uint64(64 - bits) for codes in (hashes, np.array([ODD]))
            )
            for pairs, across in _neighbours(*_either_way(keys, turns[0]), alone.astype(np.int32), part):
                found.append(pairs[_distance(prints, pairs, across) <= NEAR])
    return np.unique(np.concatenate(found), axis=0)


def _distance(prints: Prints, pairs: Pairs, across: Mask) -> NDArray[np.uint8]:
    """The smaller of the distances of both hashes; in the mirror where they met there."""
    a, b = pairs[:, 0], pairs[:, 1]
    turns = np.where(across, ODD, np.uint64(0))
    whole = np.bitwise_count(prints.whole[a] ^ prints.whole[b] ^ turns)
    return np.asarray(np.minimum(whole, np.bitwise_count(prints.content[a] ^ prints.content[b] ^ turns)))


def _by_landmarks(prints: Prints, alone: NDArray[np.int64], part: int) -> Pairs:
    """Pairs that share a key of a landmark, or two where there are many pictures, and whose landmarks lie alike."""
    counts = np.diff(prints.starts)
    owners = np.repeat(np.arange(len(prints), dtype=np.int32), counts)
    codes = prints.landmarks["code"]
    if len(alone) < len(prints):
        taken = np.zeros(len(prints), bool)
        taken[alone] = True
        mine = np.repeat(taken, counts)
        codes, owners = codes[mine], owners[mine]
    if not len(codes):
        return np.zeros((0, 2), np.int64)
    bits = int(np.clip(np.ceil(np.log2(len(codes))) + 3, 20, 40))
    met: list[Keys] = []
    for band in range(3):
        keys, turned = _filed(codes, band, bits, part)
        for pairs, in_mirror in _neighbours(keys, turned, owners, part):
            first, second = pairs.astype(np.uint64).T
            met.append((first << np.uint64(32)) | (second << np.uint64(1)) | in_mirror)
        del keys, turned
    least = 1 if len(alone) <= SMALL else TWO
    found = []
    for across, fewest, most in ((False, least, LOOKED_AT), (True, TWO, IN_MIRROR)):
        pairs, votes = _often(met, across, fewest, len(prints), part)
        pairs = pairs[_nearest(pairs, votes, MET)]
        agree = _agreeing(prints, pairs, across=across)
        kept = agree >= (SPOTS if across else SHARED)
        pairs, agree = pairs[kept], agree[kept]
        found.append(pairs[_nearest(pairs, agree, most)])
    return np.concatenate(found)


def _filed(codes: Keys, band: int, bits: int, part: int) -> tuple[Keys, Mask]:
    """The keys of a band and which of them are the mirrored ones, made a part at a time, as they are most of the memory."""
    keys, turned = np.zeros(len(codes), np.uint64), np.zeros(len(codes), bool)
    mask = _band(np.array([ODD]), band, bits)[0]
    for at in range(0, len(codes), part):
        some = slice(at, at + part)
        keys[some], turned[some] = _either_way(_band(codes[some], band, bits), mask)
    return keys, turned


def _either_way(keys: Keys, mask: np.uint64) -> tuple[Keys, Mask]:
    """The smaller of a key and the key of the mirrored picture, and whether it is the latter."""
    other = keys ^ mask
    return np.minimum(keys, other), other < keys


def _often(met: list[Keys], across: bool, least: int, pictures: int, part: int) -> tuple[Pairs, NDArray[np.int64]]:
    """Pairs that met (in the mirror, or not) `least` times, sorted, and how often; counted for a block of pictures at a time."""
    blocks = max(1, sum(map(len, met)) // part)
    edges = [np.uint64(-(-pictures * k // blocks) << 32) for k in range(blocks + 1)]
    pairs, counts = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    for low, high in itertools.pairwise(edges):
        mine = [m[(m >= low) & (m < high) & ((m & np.uint64(1)) == across)] for m in met]
        packed, votes = np.unique(np.concatenate([np.zeros(0, np.uint64), *mine]), return_counts=True)
        pairs.append(packed[votes >= least])
        counts.append(votes[votes >= least])
    packed = np.concatenate(pairs)
    both = np.stack([packed >> np.uint64(32), (packed & np.uint64(0xFFFFFFFF)) >> np.uint64(1)], 1).astype(np.int64)
    return both, np.concatenate(counts)


def _agreeing(prints: Prints, pairs: Pairs, *, across: bool) -> NDArray[np.int64]:
    """How many landmarks of each pair lie alike; in the mirror none where no more do than without, as in a symmetric drawing."""
    found = np.zeros(len(pairs), np.int64)
    for k, (a, b) in enumerate(pairs):
        one, two = prints.landmarks_of(a), prints.landmarks_of(b)
        found[k] = shared(one, mirrored(two) if across else two)
        if across and found[k] >= SPOTS and found[k] <= shared(one, two):
            found[k] = 0
    return found


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


def _band(codes: Keys, band: int, bits: int) -> Keys:
    """Three ways to take `bits` signs of 64, the lowest frequencies most often: they are the steadiest."""
    half = bits // 2
    last = (np.uint64(1) << np.uint64(half)) - np.uint64(1)
    first, second = ((0, 1), (0, 2), (1, 2))[band]
    low, high = ((codes >> np.uint64(64 - (k + 1) * half)) & last for k in (first, second))
    return np.asarray((low << np.uint64(half)) | high)


def _neighbours(keys: Keys, turned: Mask, owners: NDArray[np.int32], part: int) -> Iterator[tuple[Pairs, Mask]]:
    """Pairs of owners that share a key, once for every key they share, and whether one of them is turned. Of a key that many share,
    every owner is paired with the next ones only: they hang together all the same."""
    parts = -(-len(keys) // part)
    place = np.zeros(len(keys) if parts > 1 else 0, np.uint32)
    for at in range(0, len(place), part):  # spreads keys evenly over the parts
        place[at : at + part] = ((keys[at : at + part] * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)) % np.uint64(
            parts
        )
    for k in range(parts):
        chosen = slice(None) if parts == 1 else np.flatnonzero(place == k)
        key, who = keys[chosen], owners[chosen].astype(np.uint32) | np.where(turned[chosen], TURNED, np.uint32(0))
        order = np.lexsort((who, key))
        key, who = key[order], who[order]
        begins = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
        many = np.repeat(np.diff(np.append(begins, len(key))) > WIDE, np.diff(np.append(begins, len(key))))
        owner = (who & ~TURNED).astype(np.int64)
        for step in range(1, WIDE + 1):
            same = key[step:] == key[:-step]
            if not same.any():
                break
            if step > CHAIN:
                same &= ~many[step:]
            met = np.flatnonzero(same & (owner[step:] != owner[:-step]))
            one, two = owner[met], owner[met + step]
            yield np.stack([np.minimum(one, two), np.maximum(one, two)], 1), (who[met] ^ who[met + step]) >= TURNED

"""Pictures that belong together: files of one drawing (`duplicate`), and versions of one drawing (`variant`). Knows verdicts and
facts of posts; opens no picture.

Being alike is not handed on: whoever joins a group was compared with its best picture. A picture is in one group of duplicates at
most, and through the best of it in one of versions. Nothing is taken out: a query may keep only the best, and versions are kept.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from ..catalogue import beside
from ..core.files import atomic_path
from ..image.likeness import DUPLICATE, VARIANT, Likeness

GROUPS = pa.schema(
    [
        ("uid", pa.int64()),
        ("group", pa.int64()),
        ("kind", pa.string()),
        ("relation", pa.string()),
        ("score", pa.float32()),
    ]
)
"""`groups.parquet`: (uid, kind) is the key; `group` is the uid of the best, whose own relation is `best`."""

FILE = "groups.parquet"
LOSSLESS = ("PNG", "BMP", "TIFF", "GIF")

Pair = tuple[int, int]
Look = Callable[[Iterable[Pair]], Mapping[Pair, Likeness]]


@dataclass(frozen=True)
class Facts:
    """Of a picture, for saying which of several is best. `told` is how many tags and captions it has."""

    uid: int
    pixels: int
    format: str
    bytes: int
    told: int = 0

    @property
    def rank(self) -> tuple[int, int, int, int, int]:
        """The smallest is best: most pixels; a format without loss; most bytes, which is least compressed; most told."""
        return -self.pixels, self.format not in LOSSLESS, -self.bytes, -self.told, self.uid


@dataclass(frozen=True)
class Member:
    uid: int
    group: int
    kind: str
    relation: str
    score: float


def read(folder: Path) -> pa.Table:
    """The groups of a catalogue; an empty table before `dedup` ran."""
    return beside.read(Path(folder) / FILE, GROUPS)


def write(folder: Path, members: Sequence[Member]) -> None:
    """Whole or not at all, in an order of its own."""
    import pyarrow.parquet as pq

    rows = sorted((vars(member) for member in members), key=lambda row: (row["kind"], row["group"], row["uid"]))
    with atomic_path(Path(folder) / FILE) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, GROUPS), temporary, compression="zstd")


def group(
    facts: Mapping[int, Facts], same_pixels: Iterable[Sequence[int]], pairs: Iterable[Pair], look: Look
) -> list[Member]:
    """All groups.

    Args:
        facts: of every picture.
        same_pixels: uids with equal pixels, two or more together. Of these, `pairs` name any.
        pairs: candidates.
        look: verdicts of pairs; asked again where a picture was not compared with the best of what it may join.
    """
    first = {uid: min(twins) for twins in same_pixels for uid in twins}
    twins_of: dict[int, list[int]] = defaultdict(list)
    for uid, head in sorted(first.items()):
        twins_of[head].append(uid)
    best_twin = {head: min(twins, key=lambda uid: facts[uid].rank) for head, twins in twins_of.items()}
    ask = _Heads(first, look)
    pairs = {ask.pair(a, b) for a, b in pairs if first.get(a, a) != first.get(b, b)}
    verdicts = dict(look(pairs))

    def rank(head: int) -> tuple[int, int, int, int, int]:
        return facts[best_twin.get(head, head)].rank

    same = [pair for pair, found in verdicts.items() if found.kind == DUPLICATE]
    stars = _stars(same, DUPLICATE, rank, ask)
    members: list[Member] = []
    head_of: dict[int, int] = {}
    starred = {head for star in stars for head in star}
    alone: list[Star] = [{head: None} for head in twins_of if head not in starred]
    for star in [*stars, *alone]:
        members += _duplicates(star, twins_of, best_twin)
        head_of |= dict.fromkeys(star, next(iter(star)))
    between = {
        ask.pair(head_of.get(a, a), head_of.get(b, b))
        for (a, b), found in verdicts.items()
        if found.kind == VARIANT and head_of.get(a, a) != head_of.get(b, b)
    }
    near = Counter(head for pair in between for head in pair)

    def middle(head: int) -> tuple[int, ...]:  # a version that most others are compared with keeps them together
        return -near[head], *rank(head)

    for star in _stars(sorted(between), VARIANT, middle, ask):
        best = best_twin.get(next(iter(star)), next(iter(star)))
        for head, found in star.items():
            uid = best_twin.get(head, head)
            relation, score = ("best", 1.0) if found is None else (found.relation, found.score)
            members.append(Member(uid, best, VARIANT, relation, score))
    return sorted(members, key=lambda member: (member.kind, member.group, member.uid))


class _Heads:
    """Pairs of the first pictures of their pixels, in order."""

    def __init__(self, first: Mapping[int, int], look: Look) -> None:
        self._first, self.look = first, look

    def pair(self, a: int, b: int) -> Pair:
        a, b = self._first.get(a, a), self._first.get(b, b)
        return (a, b) if a < b else (b, a)


Star = dict[int, Likeness | None]  # the best first, with None; then the others with what they are to it


def _stars(pairs: Iterable[Pair], kind: str, rank: Callable[[int], tuple[int, ...]], ask: _Heads) -> list[Star]:
    """Of everything that hangs together: the best, and those that are alike to the best itself; then the best of the rest, ..."""
    waiting = _connected(pairs)
    done: list[Star] = []
    while waiting:
        asked = {ask.pair(min(one, key=rank), uid) for one in waiting for uid in one if uid != min(one, key=rank)}
        verdicts = ask.look(asked)
        later: list[set[int]] = []
        for one in waiting:
            best = min(one, key=rank)
            found = {uid: verdicts[ask.pair(best, uid)] for uid in sorted(one - {best})}
            # A version may be met among versions as the very same drawing: through a crop that was none.
            close = {uid: verdict for uid, verdict in found.items() if verdict.kind in (kind, DUPLICATE)}
            if close:
                done.append({best: None, **close})
            rest = one - {best} - set(close)
            later += _connected([p for p in pairs if p[0] in rest and p[1] in rest])
        waiting = later
    return sorted(done, key=lambda star: next(iter(star)))


def _connected(pairs: Iterable[Pair]) -> list[set[int]]:
    """Sets that hang together, by union of trees."""
    parent: dict[int, int] = {}

    def root(uid: int) -> int:
        while parent.setdefault(uid, uid) != uid:
            parent[uid] = parent[parent[uid]]
            uid = parent[uid]
        return uid

    for a, b in pairs:
        ra, rb = root(a), root(b)
        parent[max(ra, rb)] = min(ra, rb)
    sets: dict[int, set[int]] = defaultdict(set)
    for uid in parent:
        sets[root(uid)].add(uid)
    return [sets[head] for head in sorted(sets)]


def _duplicates(star: Star, twins_of: Mapping[int, list[int]], best_twin: Mapping[int, int]) -> list[Member]:
    """Members of one group: the best, its twins by pixels, and the others with their twins."""
    head = next(iter(star))
    best = best_twin.get(head, head)
    members = []
    for one, found in star.items():
        for uid in twins_of.get(one, [one]):
            if uid == best:
                members.append(Member(uid, best, DUPLICATE, "best", 1.0))
            elif found is None:
                members.append(Member(uid, best, DUPLICATE, "pixels", 1.0))
            else:
                members.append(Member(uid, best, DUPLICATE, found.relation, found.score))
    return members

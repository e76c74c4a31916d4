"""What pairs of pictures were found to be, kept so that no pair is looked at twice. Knows files and Parquet; groups nothing.

A verdict belongs to two fingerprints, not to two files or places: it holds as long as the pictures look as they did.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..catalogue.reading import read_file
from ..core.engine import Engine
from ..core.errors import DataError
from ..core.files import atomic_path
from ..image import alignment, likeness
from ..image.decode import decode
from ..image.fingerprint import Fingerprint, looks_mirrored
from ..image.likeness import Likeness
from ..image.picture import BadPicture, Limits

SCHEMA = pa.schema(
    [
        ("key", pa.binary()),
        ("kind", pa.string()),
        ("relation", pa.string()),
        ("score", pa.float32()),
        ("changed", pa.float32()),
        ("largest", pa.int32()),
        ("cover", pa.float32()),
    ]
)
CHUNK = 16  # pairs a worker takes at a time
KEPT_EVERY = 2048  # verdicts between two writings of the file, at least
SHARE = 20  # a writing takes all of it: the next one waits this many times as long as the last one took
READY = 192 * 2**20  # bytes of pictures that a worker keeps ready: its pairs meet the same ones again and again

Pair = tuple[int, int]  # uids, the smaller first


def key_of(a: bytes, b: bytes) -> bytes:
    """Of two packed fingerprints, in either order."""
    first, second = sorted((hashlib.blake2b(a, digest_size=16).digest(), hashlib.blake2b(b, digest_size=16).digest()))
    return hashlib.blake2b(first + second, digest_size=16).digest()


class Verdicts:
    """Looks at pairs of pictures, and remembers.

    Args:
        file: where verdicts are kept; None keeps them in memory.
        prints: uid -> packed fingerprint.
        files: uid -> path of the picture.
        workers: processes; 1 looks in this one.
    """

    def __init__(
        self,
        file: Path | None,
        prints: Mapping[int, bytes],
        files: Mapping[int, str],
        *,
        workers: int = 1,
        limits: Limits | None = None,
    ) -> None:
        self.file, self.prints, self.files, self.workers = file, prints, files, workers
        self.limits = limits or Limits()
        self.looked = 0
        self._version = f"{likeness.VERSION}:{alignment.SIDE}"
        self._waits_until = 0.0
        self._known: dict[bytes, Likeness] = self._read()
        self._pool: Executor | None = None

    def __enter__(self) -> Verdicts:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._write()

    def unknown(self, pairs: Iterable[Pair]) -> list[Pair]:
        """Those that nobody looked at, sorted, each once."""
        return sorted({pair for pair in pairs if self._key(pair) not in self._known})

    def look(self, pairs: Iterable[Pair], *, advance: Callable[[int], None] | None = None) -> dict[Pair, Likeness]:
        """The verdict of every pair."""
        pairs = sorted(set(pairs))
        new = self.unknown(pairs)
        for done, (pair, found) in enumerate(self._found(new), 1):
            self._known[self._key(pair)] = found
            self.looked += 1
            if advance is not None:
                advance(1)
            if done % KEPT_EVERY == 0 and time.monotonic() >= self._waits_until:
                began = time.monotonic()
                self._write()
                self._waits_until = time.monotonic() + SHARE * (time.monotonic() - began)
        return {pair: self._known[self._key(pair)] for pair in pairs}

    def _key(self, pair: Pair) -> bytes:
        return key_of(self.prints[pair[0]], self.prints[pair[1]])

    def _mirrored(self, a: int, b: int) -> bool:
        return looks_mirrored(Fingerprint.unpack(self.prints[a]), Fingerprint.unpack(self.prints[b]))

    def _found(self, pairs: Sequence[Pair]) -> Iterator[tuple[Pair, Likeness]]:
        looks = [(self.files[a], self.files[b], self._mirrored(a, b)) for a, b in pairs]
        chunks = [looks[at : at + CHUNK] for at in range(0, len(looks), CHUNK)]
        work = partial(_look, limits=self.limits)
        if self.workers > 1 and len(chunks) > 1:
            if self._pool is None:
                self._pool = Engine(workers=self.workers).executor()
            results: Iterable[list[Likeness]] = self._pool.map(work, chunks)
        else:
            results = map(work, chunks)
        yield from zip(pairs, (found for chunk in results for found in chunk), strict=True)

    def _read(self) -> dict[bytes, Likeness]:
        if self.file is None or not self.file.exists():
            return {}
        try:
            table = pq.read_table(self.file)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{self.file} cannot be read: {error}", do="remove it and run 'animeflow dedup'") from error
        if (table.schema.metadata or {}).get(b"version", b"").decode() != self._version:
            return {}  # another way of looking
        return {row.pop("key"): Likeness(**row) for row in table.to_pylist()}

    def _write(self) -> None:
        if self.file is None or not self.looked:
            return
        rows = [_row(key, self._known[key]) for key in sorted(self._known)]
        table = pa.Table.from_pylist(rows, SCHEMA).replace_schema_metadata({"version": self._version})
        with atomic_path(self.file) as temporary:
            pq.write_table(table, temporary, compression="zstd")


def _row(key: bytes, found: Likeness) -> dict[str, Any]:
    return {"key": key} | {name: getattr(found, name) for name in SCHEMA.names[1:]}


class _Views:
    """Pictures ready to be compared, the longest unused given up first."""

    def __init__(self, room: int = READY) -> None:
        self.room, self.bytes = room, 0
        self._kept: OrderedDict[tuple[str, Limits], alignment.View | None] = OrderedDict()

    def get(self, path: str, limits: Limits) -> alignment.View | None:
        key = (path, limits)
        if key not in self._kept:
            try:
                view = alignment.View.of(decode(read_file(path), limits=limits))
            except (BadPicture, OSError):  # it was a picture when the catalogue was made
                view = None
            self._kept[key] = view
            self.bytes += _size(view)
            while self.bytes > self.room and len(self._kept) > 2:
                self.bytes -= _size(self._kept.popitem(last=False)[1])
        self._kept.move_to_end(key)
        return self._kept[key]


def _size(view: alignment.View | None) -> int:
    """Its pixels, and features as many as it may have of its size."""
    return 0 if view is None else view.pixels.nbytes * 2 + min(view.pixels.nbytes * 3, 500 * 130 * 4)


_views = _Views()


def _look(pairs: Sequence[tuple[str, str, bool]], *, limits: Limits) -> list[Likeness]:
    """Of (file, file, whether to look in the mirror too)."""
    alignment.one_thread()  # many workers share the cores
    found = []
    for first, second, mirrored in pairs:
        a, b = _views.get(first, limits), _views.get(second, limits)
        if a is None or b is None:
            found.append(Likeness(likeness.UNRELATED, "unreadable"))
        else:
            found.append((likeness.in_mirror if mirrored else likeness.likeness)(a, b))
    return found

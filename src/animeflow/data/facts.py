"""What is known of every picture of a set, as one table to ask. Knows shards and Arrow; knows no question.

It is read out of the shards' JSON once, and kept beside them as `facts.parquet` where the folder can be written to. Of several
processes that ask for it at once one reads and the others wait, on every machine that has a folder of its own.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..core.errors import DataError
from ..core.files import atomic_path
from ..core.lock import Lock, NoLocks
from ..text.tags import CATEGORIES
from .conditions import NUMBERS, WORDS
from .manifest import key
from .reader import ShardSet

log = logging.getLogger(__name__)

FILE = "facts.parquet"
_OF = b"animeflow.samples"  # hash of the samples that the table tells of
_AT_ONCE = 20_000
TAGS = pa.large_list(
    pa.large_string()
)  # of five millions of pictures they are more than the 2^31 bytes of a plain column
SCHEMA = pa.schema(
    [
        ("uid", pa.int64()),
        *((name, pa.string()) for name in WORDS),
        *((name, pa.int64()) for name in NUMBERS),
        *((category, TAGS) for category in CATEGORIES),
    ]
)


def table_of(facts: Iterable[tuple[int, Mapping[str, Any]]]) -> pa.Table:
    """A row per (uid, post as JSON), ascending by uid."""
    return pa.Table.from_pylist([_row(uid, each) for uid, each in facts], SCHEMA).sort_by("uid")


def sources_of(uids: Collection[int], sources: Mapping[int, str] | None = None) -> pa.Table:
    """What is known of pictures without their shards: uid, and the source where it is. Columns at once: a row of a dictionary each
    takes gigabytes for millions."""
    columns = {"uid": pa.array(uids, pa.int64())}
    if sources is not None:
        columns["source"] = pa.array([sources[uid] for uid in uids], pa.string())
    return pa.table(columns)


def facts_of(shards: ShardSet, columns: Collection[str], *, uids: Collection[int], threads: int = 4) -> pa.Table:
    """Columns of the table of these pictures, ascending by uid.

    Raises:
        DataError: one of them is not in the shards, or they are broken.
    """
    names = ["uid", *(name for name in SCHEMA.names if name in columns)]
    table = _kept(shards, names)
    if table is None:
        with _turn(shards):
            table = _kept(shards, names)  # by the process that we waited for
            if table is None:
                log.info("reading what the shards know of %s pictures: once", f"{len(shards):,}")
                table = _read(shards, threads=threads)
                _keep(shards, table)
    return select(table.select(names), uids, where=str(shards.place))


@contextlib.contextmanager
def _turn(shards: ShardSet) -> Iterator[None]:
    """One at a time; all at once where nothing can be written, since there nothing would be found after the wait."""
    with contextlib.ExitStack() as stack:
        if shards.place.local:
            lock = Lock(shards.folder / f".{FILE}.lock", signed=True)
            with contextlib.suppress(NoLocks, OSError):
                lock.take(wait=True)
            stack.callback(lock.release, remove=True)
        yield


def select(table: pa.Table, uids: Collection[int], *, where: str) -> pa.Table:
    """The rows of these pictures. Raises DataError where one has none."""
    wanted = np.sort(np.fromiter(uids, dtype=np.int64, count=len(uids)))
    there = table["uid"].to_numpy()
    rows = np.minimum(np.searchsorted(there, wanted), max(len(there) - 1, 0))
    lost = wanted[there[rows] != wanted] if len(there) else wanted
    if len(lost):
        raise DataError(
            f"{len(lost)} pictures of the cache are in none of the shards, the first is {key(int(lost[0]))}", where=where,
            do="run 'cache' again",
        )  # fmt: skip
    return table if len(wanted) == len(there) else table.take(pa.array(rows))


def _read(shards: ShardSet, *, threads: int) -> pa.Table:
    order, parts = shards.in_file_order(), []
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(order), _AT_ONCE):
            part = order[start : start + _AT_ONCE]
            parts.append(table_of(zip(part, pool.map(shards.facts, part), strict=True)))
    return pa.concat_tables(parts).sort_by("uid") if parts else SCHEMA.empty_table()


def _row(uid: int, facts: Mapping[str, Any]) -> dict[str, Any]:
    tags, created = facts.get("tags") or {}, str(facts.get("created_at") or "")
    row = {name: facts.get(name) for name in (*WORDS, *NUMBERS)} | {"year": None, "uid": uid}
    if created[:4].isdigit():
        row["year"] = int(created[:4])
    return row | {category: list(tags.get(category) or ()) for category in CATEGORIES}


def _kept(shards: ShardSet, names: list[str]) -> pa.Table | None:
    if shards.place.size(FILE) is None:
        return None
    try:
        file = pq.ParquetFile(pa.BufferReader(shards.place.read_bytes(FILE)))
        if (file.schema_arrow.metadata or {}).get(_OF, b"").decode() != shards.samples_hash:
            return None
        kept = {field.name: field.type for field in file.schema_arrow}
        if any(kept.get(name) != SCHEMA.field(name).type for name in names):  # of an earlier version
            return None
        return file.read(names)
    except (pa.ArrowException, OSError, KeyError) as error:
        log.warning("%s is made anew: %s", shards.place.where(FILE), error)
        return None


def _keep(shards: ShardSet, table: pa.Table) -> None:
    if shards.place.local:
        with contextlib.suppress(OSError), atomic_path(shards.folder / FILE) as temporary:
            about = {_OF: shards.samples_hash.encode()}
            pq.write_table(table.replace_schema_metadata(about), temporary, compression="zstd")

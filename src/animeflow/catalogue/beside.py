"""Tables beside the catalogue, keyed by uid: fingerprints, scores. Knows Arrow and atomic files; knows no column's meaning."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..core.errors import DataError
from ..core.files import atomic_path
from .rows import ROWS_PER_GROUP, groups

PRINTS = pa.schema([("uid", pa.int64()), ("print", pa.binary())])
"""`prints.parquet`: what each picture looks like, a packed `image.fingerprint.Fingerprint`."""

SCORES = pa.schema([("uid", pa.int64()), ("name", pa.string()), ("score", pa.float32())])
"""`scores/<tool>.parquet`: what a tool says; the file's metadata has its version. Scores order a queue and take nothing out."""


def read(file: Path, schema: pa.Schema) -> pa.Table:
    """The table, or an empty one where there is no file. Raises DataError for another kind of file."""
    if not file.exists():
        return schema.empty_table()
    try:
        return pq.read_table(file, schema=schema)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(file, error) from error


def uids(file: Path) -> NDArray[np.int64]:
    """Of all pictures that have a row, sorted; none where there is no file."""
    return np.unique(read(file, pa.schema([("uid", pa.int64())]))["uid"].to_numpy())


def put(
    file: Path, schema: pa.Schema, rows: Iterable[Mapping[str, Any]], *, about: Mapping[str, str] | None = None
) -> bool:
    """Take rows; all earlier rows of the same uids go. False when nothing changed, and then the file is not touched.

    The file is in the order of the uids, and is read and written a group at a time: that of a large set is larger than what fits a
    column of Arrow's. `about` goes into its metadata.
    """
    new = _in_order(pa.Table.from_pylist(list(rows), schema))
    if not len(new):
        return False
    keys = new["uid"].combine_chunks()
    gone = [old.filter(pc.is_in(old["uid"], keys)) for old in _read(file, schema)]
    if sum(map(len, gone)) == len(new) and _in_order(pa.concat_tables(gone)).equals(new) and _says(file, about or {}):
        return False
    with atomic_path(file) as temporary:
        described = schema.with_metadata(dict(about)) if about else schema
        with pq.ParquetWriter(temporary, described, compression="zstd") as writer:
            for group in groups(_merged(_read(file, schema), new)):
                writer.write_table(group.combine_chunks())
    return True


def _says(file: Path, about: Mapping[str, str]) -> bool:
    told = pq.read_schema(file).metadata or {}
    return all(told.get(name.encode()) == value.encode() for name, value in about.items())


def _merged(old: Iterable[pa.Table], new: pa.Table) -> Iterator[pa.Table]:
    """Old rows but those of the new uids, and the new rows, in order."""
    keys, at = new["uid"].combine_chunks(), 0
    for table in old:
        end = int(np.searchsorted(keys.to_numpy(), table["uid"][-1].as_py(), side="right"))
        kept = table.filter(pc.invert(pc.is_in(table["uid"], keys)))
        yield kept if end == at else _in_order(pa.concat_tables([kept, new.slice(at, end - at)]))
        at = end
    yield new.slice(at)


def _read(file: Path, schema: pa.Schema) -> Iterator[pa.Table]:
    """The rows of a file, a group at a time; none where there is no file."""
    if not file.exists():
        return
    try:
        for batch in pads.dataset(file, schema=schema).to_batches(batch_size=ROWS_PER_GROUP, use_threads=False):
            if len(batch):
                yield pa.Table.from_batches([batch]).replace_schema_metadata(None)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(file, error) from error


def _in_order(table: pa.Table) -> pa.Table:
    names = [name for name in table.column_names[:2] if table.schema.field(name).type != pa.binary()]
    return table.sort_by([(name, "ascending") for name in names])


def _unreadable(file: Path, error: Exception) -> DataError:
    return DataError(f"{file} cannot be read: {error}", do="remove it and run the verb that made it again")

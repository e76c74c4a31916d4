"""Tables beside the catalogue, keyed by uid: fingerprints, scores. Knows Arrow and atomic files; knows no column's meaning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..core.errors import DataError
from ..core.files import atomic_path

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
        raise DataError(
            f"{file} cannot be read: {error}", do="remove it and run the verb that made it again"
        ) from error


def write(file: Path, table: pa.Table, *, about: Mapping[str, str] | None = None) -> None:
    """Whole or not at all, in the order of the uids. `about` goes into the file's metadata."""
    table = table.sort_by(
        [(name, "ascending") for name in table.column_names[:2] if table.schema.field(name).type != pa.binary()]
    )
    if about is not None:
        table = table.replace_schema_metadata(dict(about))
    with atomic_path(file) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def put(
    file: Path, schema: pa.Schema, rows: Iterable[Mapping[str, Any]], *, about: Mapping[str, str] | None = None
) -> bool:
    """Take rows; all earlier rows of the same uids go. False when nothing changed, and then the file is not touched."""
    new = pa.Table.from_pylist(list(rows), schema)
    if not len(new):
        return False
    old = read(file, schema)
    kept = old.filter(pc.invert(pc.is_in(old["uid"], new["uid"].combine_chunks())))
    gone = old.filter(pc.is_in(old["uid"], new["uid"].combine_chunks()))
    order = [(name, "ascending") for name in schema.names[:2] if schema.field(name).type != pa.binary()]
    if len(gone) == len(new) and gone.sort_by(order).equals(new.sort_by(order)):
        return False
    write(file, pa.concat_tables([kept, new]), about=about)
    return True

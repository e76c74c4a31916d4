"""Tables beside the catalogue, keyed by uid: fingerprints, scores. Knows Arrow and atomic files; knows no column's meaning.

A long run adds to a table by parts, NAME.parts/FIRST-LAST.parquet, that cost what is new; `settle` merges them into the table once.
Whoever reads through this module sees the parts too, so what a killed run left in them is not lost.
"""

from __future__ import annotations

import contextlib
import filecmp
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..core.errors import DataError
from ..core.files import atomic_path
from .ordered import merged
from .rows import ROWS_PER_GROUP, groups

PRINTS = pa.schema([("uid", pa.int64()), ("print", pa.binary())])
"""`prints.parquet`: what each picture looks like, a packed `image.fingerprint.Fingerprint`."""

SCORES = pa.schema([("uid", pa.int64()), ("name", pa.string()), ("score", pa.float32())])
"""`scores/<tool>.parquet`: what a tool says; the file's metadata has its version. Scores order a queue and take nothing out."""

FAN = 16  # parts of one size that become a larger one, so that never many files are open at once
TRIES = 10  # to open parts that another process merges meanwhile
HEAVY = 1024  # rows of a group of a part with bytes in it: some of every part are in memory while they are merged


def read(file: Path, schema: pa.Schema) -> pa.Table:
    """The table, or an empty one where there is no file. Raises DataError for another kind of file."""
    with _opened(file, schema) as sources:
        return pa.concat_tables([schema.empty_table(), *merged(sources)])


def tables(file: Path, schema: pa.Schema) -> Iterator[pa.Table]:
    """The same, a group at a time and in order."""
    with _opened(file, schema) as sources:
        yield from merged(sources)


def uids(file: Path) -> NDArray[np.int64]:
    """Of all pictures that have a row, sorted; none where there is no file."""
    found = [np.empty(0, np.int64)]
    with _opened(file, pa.schema([("uid", pa.int64())])) as sources:
        for source in sources:
            found += [np.unique(table["uid"].to_numpy()) for table in source]
    return np.unique(np.concatenate(found))


def told(file: Path) -> dict[str, str]:
    """What was said `about` the table when rows were last added."""
    newest = next((path for path in [*reversed(_parts(file)), file] if path.exists()), None)
    try:
        kept = (pq.read_schema(newest).metadata or {}) if newest else {}
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(newest or file, error) from error
    return {name.decode(): value.decode() for name, value in kept.items() if not name.startswith(b"ARROW:")}


def put(
    file: Path, schema: pa.Schema, rows: Iterable[Mapping[str, Any]], *, about: Mapping[str, str] | None = None
) -> bool:
    """Take rows; all earlier rows of the same uids go. False when nothing changed, and then the file is not touched."""
    append(file, schema, rows, about=about)
    return settle(file, schema)


def append(
    file: Path, schema: pa.Schema, rows: Iterable[Mapping[str, Any]], *, about: Mapping[str, str] | None = None
) -> None:
    """Take rows as a part, at the cost of what is new: all earlier rows of the same uids go when it is merged."""
    new = _in_order(pa.Table.from_pylist(list(rows), schema))
    if not len(new):
        return
    last = max((_span(part)[1] for part in _parts(file)), default=-1)
    _write_part(file, schema, [new], about or {}, (last + 1, last + 1))
    while len(few := _parts(file)[-FAN:]) == FAN and len({stop - start for start, stop in map(_span, few)}) == 1:
        with _opened(file, schema, few) as sources:
            _write_part(file, schema, merged(sources), told(file), (_span(few[0])[0], _span(few[-1])[1]))
        for part in few:
            part.unlink()


def settle(file: Path, schema: pa.Schema) -> bool:
    """Merge the parts into the table. False when that changed nothing, and then the file is not touched.

    The table is in the order of the uids, and its bytes depend on its rows alone. It is read and written a group at a time: that of
    a large set is larger than what fits a column of Arrow's. What was said about the last part goes into its metadata.
    """
    changed = False
    if _parts(file):
        with contextlib.suppress(_Same), atomic_path(file) as temporary:
            with _opened(file, schema) as sources, _writer(temporary, schema, told(file)) as writer:
                for group in groups(merged(sources)):
                    writer.write_table(group.combine_chunks())
            if file.exists() and filecmp.cmp(temporary, file, shallow=False):
                raise _Same
            changed = True
    with contextlib.suppress(PermissionError):  # Windows removes nothing that somebody reads: the next time, then
        _sweep(file)
    return changed


def forget(file: Path) -> None:
    """Remove the table and its parts."""
    _sweep(file)
    file.unlink(missing_ok=True)


class _Same(Exception):
    """What was written is what is there."""


def _folder(file: Path) -> Path:
    return file.with_suffix(".parts")


def _span(part: Path) -> tuple[int, int]:
    first, _, last = part.stem.partition("-")
    return int(first), int(last)


def _parts(file: Path) -> list[Path]:
    """In the order in which they were added, without those that a larger one holds: a killed run could not remove them."""
    found: list[Path] = []
    for part in sorted(_folder(file).glob("[0-9]*-[0-9]*.parquet"), key=lambda p: (_span(p)[0], -_span(p)[1])):
        if not found or _span(part)[1] > _span(found[-1])[1]:
            found.append(part)
    return found


def _sweep(file: Path) -> None:
    """The oldest part first: what is left when this is killed, or the disk fails, still says the newest of each picture."""
    folder = _folder(file)
    for part in sorted(folder.glob("[0-9]*-[0-9]*.parquet"), key=lambda p: _span(p)[1]):
        part.unlink(missing_ok=True)
    if folder.exists():
        shutil.rmtree(folder)


def _write_part(
    file: Path, schema: pa.Schema, rows: Iterable[pa.Table], about: Mapping[str, str], span: tuple[int, int]
) -> None:
    size = HEAVY if pa.binary() in schema.types else ROWS_PER_GROUP
    part = _folder(file) / f"{span[0]:08}-{span[1]:08}.parquet"
    with atomic_path(part) as temporary, _writer(temporary, schema, about) as writer:
        for group in groups(rows, size):
            writer.write_table(group.combine_chunks())


def _writer(file: Path, schema: pa.Schema, about: Mapping[str, str]) -> pq.ParquetWriter:
    return pq.ParquetWriter(file, schema.with_metadata(dict(about)) if about else schema, compression="zstd")


@contextlib.contextmanager
def _opened(file: Path, schema: pa.Schema, parts: Sequence[Path] | None = None) -> Iterator[list[Iterator[pa.Table]]]:
    """The rows of the table and of its parts, each a group at a time, the newest last; of the given parts alone, where they are.

    Parts are opened first: one that goes now is in the table already, and stays readable to who has opened it.
    """
    with contextlib.ExitStack() as stack:
        opened = _open_parts(file, stack, parts)
        yield [
            *([_base(file, schema)] if parts is None else []),
            *(_part(each, schema, _folder(file)) for each in opened),
        ]


def _open_parts(file: Path, stack: contextlib.ExitStack, parts: Sequence[Path] | None) -> list[pq.ParquetFile]:
    for again in reversed(range(TRIES)):
        try:
            with contextlib.ExitStack() as mine:
                opened = [
                    mine.enter_context(pq.ParquetFile(part)) for part in (_parts(file) if parts is None else parts)
                ]
                stack.push(mine.pop_all())
                return opened
        except FileNotFoundError as error:  # merged by another process since they were listed
            if parts is not None or not again:
                raise _unreadable(_folder(file), error) from error
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(_folder(file), error) from error
    raise AssertionError


def _part(file: pq.ParquetFile, schema: pa.Schema, folder: Path) -> Iterator[pa.Table]:
    try:
        for number in range(file.num_row_groups):
            yield file.read_row_group(number, columns=schema.names, use_threads=False).replace_schema_metadata(None)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(folder, error) from error


def _base(file: Path, schema: pa.Schema) -> Iterator[pa.Table]:
    if not file.exists():
        return
    try:
        batches = pads.dataset(file, schema=schema).to_batches(
            batch_size=ROWS_PER_GROUP, batch_readahead=1, use_threads=False
        )
        for batch in batches:
            if len(batch):
                yield pa.Table.from_batches([batch]).replace_schema_metadata(None)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(file, error) from error


def _in_order(table: pa.Table) -> pa.Table:
    names = [name for name in table.column_names[:2] if table.schema.field(name).type != pa.binary()]
    return table.sort_by([(name, "ascending") for name in names])


def _unreadable(file: Path, error: Exception) -> DataError:
    return DataError(f"{file} cannot be read: {error}", do="remove it and run the verb that made it again")

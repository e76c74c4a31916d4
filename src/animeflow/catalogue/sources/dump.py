"""Records of a file: JSON in the envelopes that sites use, JSON lines, CSV, Parquet, or a folder of such. Knows no key's meaning.

One bad line of many is handed on as a bad record, to be counted; a file that is cut or none of these is a DataError.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.errors import DataError
from ..walk import files_in
from .array import values_of

SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".parquet")
LINES = (".jsonl", ".ndjson")
WHOLE = 32 * 2**20  # bytes of JSON that are read at once
ROWS = 1024  # of Parquet
BAD = 10_000  # lines that are no objects, before any that is one: the file is something else
_ENVELOPES = ("posts", "post", "data", "illusts", "illust")
_ANSWERS = ("@attributes", "success", "meta")  # around an answer that may hold no post at all


@dataclass(frozen=True)
class Record:
    """One record and where it stands: `posts.jsonl line 3`. `value` is None for what is no object; `problem` says what it is."""

    place: str
    value: Mapping[str, Any] | None
    problem: str = ""


def read_records(file: Path) -> Iterator[Record]:
    """Records of a file, or of all files with a known suffix below a folder, in a fixed order.

    Raises:
        DataError: there is none, or one is cut, of another encoding or of another kind.
    """
    if file.is_dir():
        if not (inside := read_files(file)):
            raise DataError(f"{file} holds no dump", do=f"give a file or a folder of {', '.join(SUFFIXES)}")
        for path in inside:
            yield from read_records(path)
        return
    if not file.is_file():
        raise DataError(f"there is no file {file}", do="check the path of the dump")
    suffix = file.suffix.lower()
    if suffix == ".parquet":
        yield from _parquet(file)
    elif suffix == ".csv":
        yield from _csv(file)
    elif suffix in LINES:
        yield from _lines(file, lines_of(file), strict=False)
    elif file.stat().st_size > WHOLE:
        yield from _long_json(file)
    else:
        yield from _json(file)


def read_files(folder: Path) -> list[Path]:
    """The files of a folder that `read_records` reads, in its order."""
    return [file for file in files_in(folder) if file.suffix.lower() in SUFFIXES]


def text_of(file: Path) -> str:
    """UTF-8, with or without a byte order mark."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8", why=str(error), do="save it as UTF-8") from error


def lines_of(file: Path) -> Iterator[str]:
    """The same, a line at a time."""
    try:
        with open(file, encoding="utf-8-sig") as lines:
            yield from (line.removesuffix("\n") for line in lines)
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8", why=str(error), do="save it as UTF-8") from error


def is_pickled(value: Any) -> bool:
    """Whether an object holds a pickle written as text, as waifuc does: `{"__type": ..., "base64": ...}` at any depth."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, Mapping):
            if "__type" in each or "base64" in each:
                return True
            waiting += each.values()
        elif isinstance(each, list):
            waiting += each
    return False


def _json(file: Path) -> Iterator[Record]:
    text = text_of(file)
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise DataError(f"{file} is nested too deeply for a dump", do="fetch the dump again") from error
    except ValueError:
        yield from _lines(file, text.split("\n"), strict=True)
        return
    if isinstance(value, dict) and value.get("success") is False:
        why = str(value.get("message") or value.get("reason") or value.get("error") or "it says no more")[:160]
        raise DataError(f"{file} holds an error of the site and no posts", why=why, do="ask the site again")
    for number, each in enumerate(_unwrapped(value)):
        yield _record(f"{file.name} post {number}", each)


def _long_json(file: Path) -> Iterator[Record]:
    """A large file is read piece by piece: lines of JSON, or one array. Any other is one answer of a site, and is never long."""
    with open(file, "rb") as opened:
        start = opened.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith(b"["):
        for number, each in enumerate(values_of(file)):
            yield _record(f"{file.name} post {number}", each)
        return
    try:
        json.loads(next(lines_of(file), ""))
    except (ValueError, RecursionError):
        yield from _json(file)
    else:
        yield from _lines(file, lines_of(file), strict=True)


def _unwrapped(value: Any) -> list[Any]:
    """The posts of an answer: an array, one post, or an object that holds them."""
    if not isinstance(value, dict):
        return value if isinstance(value, list) else [value]
    for name in _ENVELOPES:
        if isinstance(value.get(name), list):
            return list(value[name])
        if name in ("post", "illust") and isinstance(value.get(name), dict):
            return [value[name]]
    return [] if "id" not in value and any(name in value for name in _ANSWERS) else [value]


def _lines(file: Path, lines: Iterable[str], *, strict: bool) -> Iterator[Record]:
    """Lines end at a newline only: JSON strings may hold the other signs that Python takes for one.

    Args:
        strict: the first line that is no JSON means that the file is something else.
    """
    good, first = 0, ""
    held: list[Record] = []  # bad lines before the first good one: a file without any is broken as a whole
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if len(held) > BAD:
            raise _neither(file, first or "no line is an object")
        try:
            record = _record(f"{file.name} line {number}", json.loads(line))
        except (ValueError, RecursionError) as error:
            first = first or f"line {number}: {error}"[:160]
            if strict:
                raise _neither(file, first) from error
            record = Record(f"{file.name} line {number}", None, f"no JSON: {str(error)[:80]}")
        good += record.value is not None
        held.append(record)
        if good:
            yield from held
            held = []
    if held:
        raise _neither(file, first or "no line is an object")


def _neither(file: Path, why: str) -> DataError:
    return DataError(f"{file} is neither a JSON array nor JSON lines", why=why, do="fetch the dump again")


def _record(place: str, value: Any) -> Record:
    if isinstance(value, dict):
        return Record(place, value)
    return Record(place, None, f"a {type(value).__name__} where an object is expected")


def _csv(file: Path) -> Iterator[Record]:
    reader = csv.DictReader((f"{line}\n" for line in lines_of(file)), restval="")
    try:
        for row in reader:
            place = f"{file.name} line {reader.line_num}"
            if None in row:  # more cells than names
                yield Record(place, None, "more cells than the first line has names")
            else:
                yield Record(place, {key: value for key, value in row.items() if value != ""})
    except csv.Error as error:
        raise DataError(f"{file} is no CSV", why=str(error), do="fetch it again") from error


def _parquet(file: Path) -> Iterator[Record]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file, buffer_size=1 << 20) as table:
            number = 0
            for batch in table.iter_batches(ROWS, use_threads=False):
                for row in batch.to_pylist():
                    yield Record(f"{file.name} row {number}", {key: _json_like(value) for key, value in row.items()})
                    number += 1
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file} is no Parquet file", why=str(error)[:160], do="fetch it again") from error


def _json_like(value: Any) -> Any:
    """Arrow's times as ISO; maps come as pairs, bytes are no fact of a post."""
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return None if isinstance(value, bytes) else value

"""A file of tags to rows: its kind by what is in it, its licence and date as far as told. Knows files; knows no database."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from ...core.errors import DataError
from . import danbooru, free, listed
from .record import Row

_ABOUT = re.compile(r"#\s*(licence|license|source|date)\s*:\s*(.+)", re.IGNORECASE)
_DATES = ("updated_at", "created_at")
KNOWN = (
    'Danbooru\'s tags, tag_aliases, tag_implications, wiki_pages (JSON or JSONL); name,category,count,"aliases" (CSV); '
    "tag,translation (CSV); tag=translation; a CSV with a header or JSONL of your own"
)


@dataclass(frozen=True)
class Source:
    """Where rows are from.

    Attributes:
        kind: what the file was taken for, in words.
        hash: SHA-256 of its bytes.
        date: the newest date in it, else that of the file.
        licence: as its first lines say, `# licence: ...`; None where they do not.
    """

    name: str
    kind: str
    hash: str
    date: str
    licence: str | None


def read(path: Path) -> tuple[Source, Iterator[Row]]:
    """Raises DataError for a file that is missing, no UTF-8, or of no known kind."""
    if path.is_dir():
        raise DataError(f"{path} is a folder", where="tags build", do="name the files in it")
    if not path.is_file():
        raise DataError(f"there is no file {path}", where="tags build", do="give files of tags")
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError("this is no UTF-8", where=str(path), why=str(error), do="save it as UTF-8") from None
    about, text = _about(text)
    stripped = text.lstrip()
    if not stripped:
        raise DataError("the file is empty", where=str(path))
    kind, rows, newest = _json(path) if stripped[0] in "{[" else _table(path, text)
    date = about.get("date") or newest or datetime.fromtimestamp(path.stat().st_mtime, UTC).date().isoformat()
    name = about.get("source") or path.name
    return Source(name, kind, hashlib.sha256(data).hexdigest(), date, about.get("licence")), rows


def _about(text: str) -> tuple[dict[str, str], str]:
    """Facts of the leading `# key: value` lines, and the rest."""
    facts: dict[str, str] = {}
    while found := _ABOUT.match(text):
        facts[found[1].lower().replace("license", "licence")] = found[2].strip()
        text = text[found.end() :].lstrip("\r\n")
    return facts, text


def _json(path: Path) -> tuple[str, Iterator[Row], str | None]:
    found = list(danbooru.objects(path))
    first = next((each for _, each in found if isinstance(each, Mapping)), None)
    if first is None:
        raise DataError("there is no JSON object in it", where=str(path), do=f"known: {KNOWN}")
    dated = [each[key] for _, each in found if isinstance(each, Mapping) for key in _DATES if each.get(key)]
    newest = max((str(date)[:10] for date in dated), default=None)
    if danbooru.kind_of(first, path, found[0][0]) is None:
        return "table of one's own", free.rows(each for _, each in found), newest
    lists = [(kind, [each for _, each in group]) for kind, group in groupby(found, key=lambda pair: pair[0])]
    named = [(kind or danbooru.kind_of(first, path) or "tags", objects) for kind, objects in lists]

    def rows() -> Iterator[Row]:
        for kind, objects in named:
            yield from danbooru.rows(objects, kind)

    return "Danbooru's " + " and ".join(dict.fromkeys(kind for kind, _ in named)), rows(), newest


def _table(path: Path, text: str) -> tuple[str, Iterator[Row], None]:
    lines = text.splitlines()
    start = lines[:2000]
    if sum("=" in line for line in start) > 0.5 * len(start) and not any("," in line.split("=")[0] for line in start):
        return "tag=translation", listed.translated(listed.assigned(lines), path), None
    tab = "\t" in lines[0] and "," not in lines[0]
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter="\t" if tab else ","))
    except csv.Error as error:
        raise DataError("this is no table", where=str(path), why=str(error), do=f"known: {KNOWN}") from error
    if free.is_header(rows[0]):
        names = [name.strip() if name.strip() not in free.KNOWN else name.strip().lower() for name in rows[0]]
        return "table of one's own", free.rows(_named(names, row) for row in rows[1:] if any(row)), None
    if listed.is_tag_list(rows):
        return "list of tags with aliases", listed.tags(rows), None
    if sum(len(row) in (2, 3) for row in rows) > 0.5 * len(rows):
        return "tags with translations", listed.translated(rows, path), None
    raise DataError("this is of no kind that is known", where=str(path), do=f"known: {KNOWN}")


def _named(names: list[str], row: list[str]) -> dict[str, Any]:
    return dict(zip(names, row, strict=False))

"""How many pictures a set has of every character, series, artist or other tag, and which are short. Knows tags alone."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ..core.errors import ConfigError, DataError, did_you_mean
from ..text.tags import CATEGORIES, to_name
from .selection import Selection
from .view import ROW, View

NUMBERS = {"0": "general", "1": "artist", "3": "copyright", "4": "character", "5": "meta"}
"""A booru's numbers of categories, as lists of tags have them."""
STEPS = (1, 10, 30, 100, 300, 1000, 3000, 10000)


@dataclass(frozen=True)
class Coverage:
    """Pictures by name.

    Attributes:
        by: the category. least: a name with fewer pictures is short.
        counts: name -> pictures of the set that have it, most first, then by name.
        against: name -> how many exist elsewhere; None where nothing was given.
    """

    by: str
    least: int
    counts: Mapping[str, int]
    against: Mapping[str, int] | None = None

    @cached_property
    def short(self) -> dict[str, int]:
        """Names with too few pictures, the popular ones elsewhere first, else those nearest to enough. With a list of what exists
        elsewhere, of that list only, and with those that the set has none of."""
        if self.against is None:
            return {name: count for name, count in self.counts.items() if count < self.least}
        found = {name: self.counts.get(name, 0) for name in self.against}
        return {name: count for name, count in found.items() if count < self.least}

    @property
    def covered(self) -> int:
        """Names that have enough."""
        return len(self.against if self.against is not None else self.counts) - len(self.short)

    def histogram(self) -> list[tuple[int, int | None, int]]:
        """(from, to, names) in steps of about three, both ends included; None for the open end."""
        ends = np.array([*STEPS], dtype=np.int64)
        values = np.fromiter(self.counts.values(), dtype=np.int64, count=len(self.counts))
        found = np.bincount(np.searchsorted(ends, values, side="right"), minlength=len(STEPS) + 1)[1:]
        tops = [*(int(end) - 1 for end in ends[1:]), None]
        return [(int(low), top, int(count)) for low, top, count in zip(ends, tops, found, strict=True)]

    def shares(self) -> dict[str, float]:
        """Of what exists elsewhere: shares of names that the set has enough of, or at all, and of the pictures behind the first."""
        if not self.against:
            return {}
        total = len(self.against)
        enough = [name for name in self.against if name not in self.short]
        weight = sum(self.against.values())
        return {
            "names with enough": len(enough) / total,
            "names there at all": sum(name in self.counts for name in self.against) / total,
            "popularity of names with enough": sum(self.against[name] for name in enough) / weight if weight else 0.0,
        }

    def as_dict(self) -> dict[str, Any]:
        facts = {
            "by": self.by,
            "min": self.least,
            "names": len(self.counts),
            "covered": self.covered,
            "short": self.short,
        }
        facts |= {"histogram": [{"from": low, "to": top, "names": count} for low, top, count in self.histogram()]}
        return facts | {"counts": dict(self.counts)} | ({"against": self.shares()} if self.against is not None else {})


def coverage(
    selection: Selection, *, by: str = "character", least: int = 200, against: Mapping[str, int] | None = None
) -> Coverage:
    """Count the pictures of a selection. A picture counts once for each of its names.

    Raises:
        ConfigError: there is no such category.
    """
    if by not in CATEGORIES:
        raise ConfigError(
            f"there are no tags of the kind '{by}'{did_you_mean(by, CATEGORIES)}", where="--by",
            do=f"choose one of: {', '.join(CATEGORIES)}",
        )  # fmt: skip
    if least < 1:
        raise ConfigError(f"{least} pictures are none", where="--min", do="choose 1 or more")
    with View(selection.folder) as view:
        inside = ""
        if len(selection) < selection.total:
            view.add("inside", pa.table({"number": np.flatnonzero(selection.rows)}))
            inside = f'where "{ROW}" in (select number from inside)'
        names = f"select unnest(list_distinct(tags.{by})) as name from posts {inside}"
        rows = view.run(
            f"select name, count(*) as number from ({names}) group by name order by number desc, name"
        ).fetchall()
    return Coverage(by, least, dict(rows), against)


def read_list(file: Path, *, by: str, top: int | None = None) -> dict[str, int]:
    """Name -> count of a CSV, most first.

    Its rows are `name,count`, with a header or without, or `name,category,count,...`, of which those of `by` count.

    Raises:
        DataError: it is no such list.
    """
    try:
        with open(file, encoding="utf-8", newline="") as text:
            rows = [row for row in csv.reader(text) if row and any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"the list cannot be read: {error}", where=str(file), do="give a CSV in UTF-8: name,count"
        ) from error
    if rows and not any(cell.strip().isdigit() for cell in rows[0][1:]):
        rows = rows[1:]  # a header
    found: dict[str, int] = {}
    for number, row in enumerate(rows, 1):
        cells = [cell.strip() for cell in row]
        if len(cells) > 2 and cells[1].isdigit() and cells[2].isdigit():
            kind, count = NUMBERS.get(cells[1]), cells[2]
            if kind != by:
                continue
        elif len(cells) > 1 and cells[1].isdigit():
            count = cells[1]
        else:
            raise DataError(
                f"row {number} is no name with a count: {','.join(row)[:80]}", where=str(file), do="write name,count"
            )
        name = to_name(cells[0])
        found[name] = max(found.get(name, 0), int(count))
    if not found:
        raise DataError(f"the list has no names of the kind {by}", where=str(file), do="write name,count")
    ordered = dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))
    return dict(list(ordered.items())[:top]) if top else ordered

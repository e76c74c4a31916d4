"""`where: {source: danbooru, tags: ["3d*"], not: {rating: explicit}}`: which pictures fit. Knows columns of facts; knows no shard.

All keys of a condition must fit, of a list any one. Words may hold `*`; null is a picture of which nothing is said. `not` turns a
condition round, and `any` is a list of conditions of which one is enough.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..core.errors import ConfigError, did_you_mean
from ..text.tags import CATEGORIES

WORDS = ("source", "origin", "rating", "generator", "licence")
NUMBERS = ("score", "year", "generation")
NAMES = (*WORDS, *NUMBERS, "tags", *CATEGORIES)
"""What can be asked of a picture; `tags` are those of any category."""


def columns_of(where: Mapping[str, Any]) -> set[str]:
    """The facts that a condition looks at."""
    found: set[str] = set()
    for name, value in where.items():
        if name in ("not", "any"):
            for part in [value] if name == "not" else value:
                found |= columns_of(part)
        else:
            found |= set(CATEGORIES) if name == "tags" else {name}
    return found


def check(where: Any, at: str) -> None:
    """Raises ConfigError for a condition that cannot be read."""
    if not isinstance(where, Mapping) or not where:
        raise ConfigError(f"{where!r} says nothing about pictures", where=at, do="for example {source: danbooru}")
    for name, value in where.items():
        if name == "not":
            check(value, f"{at}.not")
        elif name == "any":
            if not isinstance(value, list) or not value:
                raise ConfigError(f"{value!r} is no list of conditions", where=f"{at}.any")
            for part in value:
                check(part, f"{at}.any")
        elif name not in NAMES:
            known = (*NAMES, "not", "any")
            raise ConfigError(
                f"unknown fact '{name}'{did_you_mean(str(name), known)}", where=at, do=f"choose of: {', '.join(known)}"
            )
        elif name in NUMBERS:
            _number_test(value, f"{at}.{name}")
        elif not all(isinstance(each, str | None) for each in _listed(value)):
            raise ConfigError(f"{value!r} is no word and no list of words", where=f"{at}.{name}")


def fits(table: pa.Table, where: Mapping[str, Any], at: str) -> np.ndarray:
    """Which rows fit, bool `[len(table)]`. Raises ConfigError for a condition that cannot be read."""
    check(where, at)
    return _fits(table, where, at)


def _fits(table: pa.Table, where: Mapping[str, Any], at: str) -> np.ndarray:
    fitting = np.ones(len(table), dtype=bool)
    for name, value in where.items():
        if name == "not":
            fitting &= ~_fits(table, value, at)
        elif name == "any":
            fitting &= reduce(np.logical_or, [_fits(table, part, at) for part in value])
        elif name in NUMBERS:
            fitting &= _number_test(value, f"{at}.{name}")(
                table[name].cast(pa.float64()).to_numpy(zero_copy_only=False)
            )
        elif name in WORDS:
            fitting &= _of_words(table[name], _listed(value))
        else:
            categories = CATEGORIES if name == "tags" else (name,)
            wanted = [each for each in _listed(value) if each is not None]
            found = [tags_like(table[category], wanted)[0] for category in categories]
            said = reduce(np.logical_or, (_marked(len(table), rows) for rows in found))
            if None in _listed(value):
                said |= ~reduce(np.logical_or, (_lengths(table[category]) > 0 for category in categories))
            fitting &= said
    return fitting


def tags_like(column: pa.ChunkedArray, patterns: Iterable[str]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Every tag of every row that is like one of `patterns`: its row, its number among the last, which names them."""
    lists = _whole(column)
    words = _encoded(lists.flatten())
    names = words.dictionary.to_pylist()
    numbers = words.indices.to_numpy(zero_copy_only=False)
    chosen = np.array([bool(hit) for hit in _like(names, patterns)], dtype=bool)
    kept = np.flatnonzero(chosen[numbers]) if len(numbers) else np.empty(0, dtype=np.int64)
    rows = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)[kept]
    renumbered = np.cumsum(chosen) - 1
    return rows, renumbered[numbers[kept]], [name for name, hit in zip(names, chosen, strict=True) if hit]


def nearest(table: pa.Table, where: Mapping[str, Any]) -> str:
    """`(did you mean ...?)` for the first word of a condition that no picture has, or nothing."""
    for name, value in where.items():
        if name in NUMBERS or name in ("not", "any"):
            continue
        known: set[str] = set()
        for column in CATEGORIES if name == "tags" else (name,):
            values = _whole(table[column])
            known |= set((values.flatten() if column in CATEGORIES else values).unique().drop_null().to_pylist())
        for word in _listed(value):
            if word is not None and not any(_like(known, [word])):
                near = [each for each in known if each[:1] == word[:1]] if len(known) > 10_000 else known
                return did_you_mean(word, sorted(near))
    return ""


def _of_words(column: pa.ChunkedArray, wanted: list[str | None]) -> np.ndarray:
    words = _encoded(_whole(column))
    hits = np.array([*_like(words.dictionary.to_pylist(), [w for w in wanted if w is not None]), None in wanted])
    numbers = words.indices.fill_null(len(hits) - 1).to_numpy(zero_copy_only=False)
    return hits.astype(bool)[numbers]


def _like(words: Iterable[str], patterns: Iterable[str]) -> Iterator[bool]:
    patterns = list(patterns)
    plain = {pattern for pattern in patterns if "*" not in pattern}
    tests = [re.compile(".*".join(map(re.escape, p.split("*"))), re.DOTALL) for p in patterns if "*" in p]
    return (word in plain or any(test.fullmatch(word) for test in tests) for word in words)


def _number_test(value: Any, at: str) -> Callable[[np.ndarray], np.ndarray]:
    """A picture without the number fits nothing but null."""
    if value is None:
        return np.isnan
    bounds = dict(value) if isinstance(value, Mapping) else {"min": value, "max": value}
    for key, bound in bounds.items():
        if key not in ("min", "max") or isinstance(bound, bool) or not isinstance(bound, int | float):
            raise ConfigError(
                f"{value!r} is no number and no range", where=at, do="write 2015, or {min: 2015, max: 2019}"
            )
    low, high = bounds.get("min", -np.inf), bounds.get("max", np.inf)
    return lambda numbers: (numbers >= low) & (numbers <= high)


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _whole(column: pa.ChunkedArray) -> pa.Array:
    whole = column.combine_chunks()
    return whole.combine_chunks() if isinstance(whole, pa.ChunkedArray) else whole


def _encoded(words: pa.Array) -> pa.DictionaryArray:
    return words if isinstance(words, pa.DictionaryArray) else words.dictionary_encode()


def _marked(count: int, rows: np.ndarray) -> np.ndarray:
    marks = np.zeros(count, dtype=bool)
    marks[rows] = True
    return marks


def _lengths(column: pa.ChunkedArray) -> np.ndarray:
    return pc.list_value_length(_whole(column)).fill_null(0).to_numpy(zero_copy_only=False)

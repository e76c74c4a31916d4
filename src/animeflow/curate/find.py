"""Pictures of a catalogue by what a person types: a hash, its beginning, or a path, from wherever it is counted. Knows columns;
loads no table into memory."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..core.errors import ConfigError
from ..core.files import read_json
from .view import View, quoted

SHORTEST, MANY = 6, 100
_HEX = re.compile(rf"[0-9a-f]{{{SHORTEST},64}}")


def find(folder: Path, words: Sequence[str]) -> list[tuple[int, str, str]]:
    """(uid, sha256, path) of the picture that each word means.

    Raises:
        ConfigError: a word means none, or several.
    """
    if not words:
        return []
    with View(folder) as view:
        paths = {word: _paths(folder, word) for word in words}
        every = {path for written in paths.values() for path in written}
        by_path = {path: (uid, sha, path) for uid, sha, path in _rows(view, _any("path", every))}
        by_start: dict[str, list[tuple[int, str, str]]] = defaultdict(list)
        lengths: dict[int, set[str]] = defaultdict(set)
        for word in words:
            if _HEX.fullmatch(word.lower()):
                lengths[len(word)].add(word.lower())
        for length, starts in lengths.items():
            for row in _rows(view, _any(f"sha256[:{length}]", starts)):
                by_start[row[1][:length]].append(row)
        return [_one(view, word, paths[word], by_path, by_start.get(word.lower(), [])) for word in words]


def _one(
    view: View,
    word: str,
    paths: Iterable[str],
    by_path: dict[str, tuple[int, str, str]],
    hits: list[tuple[int, str, str]],
) -> tuple[int, str, str]:
    for path in paths:
        if path in by_path:
            return by_path[path]
    if len(hits) == 1:
        return hits[0]
    if hits:
        raise ConfigError(
            f"'{word}' is the beginning of {len(hits)} hashes", do=f"give more digits: {hits[0][1]} is {hits[0][2]}"
        )
    if ends := _ending(view, word):
        if len(ends) == 1:
            return ends[0]
        raise ConfigError(
            f"{len(ends) if len(ends) < MANY else 'many'} paths of the catalogue end in '{word}'",
            do=f"give more of it: {ends[0][2]} or {ends[1][2]}",
        )
    near = view.run(
        f"select path, jaro_winkler_similarity(path, {quoted(word)}) as near from posts order by near desc, path limit 1"
    ).fetchone()
    hint = f" (did you mean '{near[0]}'?)" if near and near[1] > 0.8 else ""
    raise ConfigError(
        f"the catalogue has no picture '{word}'{hint}", where=str(view.folder),
        do=f"give its path or the end of that, its sha256, or the first {SHORTEST} or more digits of that",
    )  # fmt: skip


def _rows(view: View, condition: str) -> list[tuple[int, str, str]]:
    return view.run(f"select uid, sha256, path from posts where {condition}").fetchall()


def _ending(view: View, word: str) -> list[tuple[int, str, str]]:
    """Pictures whose path ends in what was typed: the path from the root of their source, or the name alone."""
    end = "/" + os.path.normpath(word).replace(os.sep, "/").lstrip("/")
    return _rows(view, f"ends_with(path, {quoted(end)}) order by path limit {MANY}")


def _any(column: str, values: Iterable[str]) -> str:
    return f"{column} in ({', '.join(map(quoted, sorted(values)))})"


def _paths(folder: Path, word: str) -> list[str]:
    """How the table may have written it: as it was typed, from here, or from the root of the pictures."""
    manifest = folder / "manifest.json"
    root = (
        Path(os.path.normpath(folder.resolve() / read_json(manifest).get("root", "..")))
        if manifest.exists()
        else folder
    )
    file = Path(os.path.abspath(word))
    place = file.parent.resolve() / file.name
    below = [str(each.relative_to(root)) for each in (file, place) if each.is_relative_to(root)]
    return list(dict.fromkeys([word, os.path.normpath(word), *below, str(file), str(place)]))

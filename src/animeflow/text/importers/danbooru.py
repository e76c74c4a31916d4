"""Danbooru's JSON: `tags`, `tag_aliases`, `tag_implications`, `wiki_pages`, as an array, one object a line, or an object of lists.

Aliases and implications have the same fields there, so only the name of the file, or of the list in it, tells them apart.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ...core.errors import DataError
from .record import ACTIVE_ALIAS, Implies, Row, Skipped, Tag, alias, count_of, name_of, other_name

CATEGORIES = {0: "general", 1: "artist", 3: "copyright", 4: "character", 5: "meta"}
E621 = {
    0: "general",
    1: "artist",
    3: "copyright",
    4: "character",
    5: "general",
    7: "meta",
}  # 5 is species; 6 invalid, 8 lore
LISTS = ("tags", "tag_aliases", "tag_implications", "wiki_pages")


def objects(path: Path) -> Iterator[tuple[str | None, Any]]:
    """(name of the list or None, object) of every object in a JSON or JSONL file. Raises DataError where it is neither."""
    text = path.read_text(encoding="utf-8-sig")
    try:
        whole = _loads(text)
    except ValueError:
        whole = None
    if isinstance(whole, list):
        yield from ((None, each) for each in whole)
    elif isinstance(whole, dict) and any(isinstance(whole.get(name), list) for name in LISTS):
        yield from ((name, each) for name in LISTS for each in _listed(whole.get(name)))
    elif isinstance(whole, dict):
        yield None, whole
    else:
        yield from ((None, _line(line)) for line in text.split("\n") if line.strip())


def kind_of(first: Mapping[str, Any], path: Path, listed: str | None = None) -> str | None:
    """The list that an object is of; None for one that Danbooru has not. Raises DataError where nothing tells."""
    if listed:
        return listed
    if "antecedent_name" in first and "consequent_name" in first:
        name = path.name.lower()
        if "implication" in name or "descendant_names" in first:
            return "tag_implications"
        if "alias" in name:
            return "tag_aliases"
        raise DataError(
            "these may be aliases or implications",
            where=str(path),
            why="their fields are the same",
            do="call the file tag_aliases.json or tag_implications.json",
        )
    if "title" in first and "other_names" in first:
        return "wiki_pages"
    return "tags" if "name" in first and "post_count" in first else None


def rows(found: Iterable[Any], kind: str) -> Iterator[Row]:
    found = list(found)
    read: Callable[[Mapping[str, Any]], Iterator[Row]]
    if kind == "tags":  # only e621 has the categories 7 and 8, and then 5 is something else
        e621 = any(isinstance(each, Mapping) and each.get("category") in (7, 8) for each in found)
        read = partial(_tag, categories=E621 if e621 else CATEGORIES)
    else:
        read = {"tag_aliases": _alias, "tag_implications": _implication, "wiki_pages": _wiki}[kind]
    for each in found:
        if isinstance(each, Mapping):
            yield from read(each)
        else:
            yield Skipped("not an object")


def _tag(each: Mapping[str, Any], categories: Mapping[int, str]) -> Iterator[Row]:
    name, count, category = name_of(each.get("name")), each.get("post_count"), each.get("category")
    if not name:
        yield Skipped("no name in the row")
    elif not isinstance(category, int) or category not in categories:
        yield Skipped(f"category {category!r} is not about a picture")
    elif not isinstance(count, int) or (number := count_of(count)) is None:
        yield Skipped("a count that is no number")
    else:
        yield Tag(name, categories[category], number, bool(each.get("is_deprecated")))


def _alias(each: Mapping[str, Any]) -> Iterator[Row]:
    other, tag = each.get("antecedent_name"), name_of(each.get("consequent_name"))
    if not isinstance(other, str) or not other.strip() or not tag:
        yield Skipped("no name in the row")
    elif each.get("status", "active") != "active":
        yield Skipped(f"status {each['status']}")
    else:
        yield from alias(tag, other, ACTIVE_ALIAS)


def _implication(each: Mapping[str, Any]) -> Iterator[Row]:
    child, parent = name_of(each.get("antecedent_name")), name_of(each.get("consequent_name"))
    if not child or not parent:
        yield Skipped("no name in the row")
    elif each.get("status", "active") != "active":
        yield Skipped(f"status {each['status']}")
    else:
        yield Implies(child, parent)


def _wiki(each: Mapping[str, Any]) -> Iterator[Row]:
    tag, names = name_of(each.get("title")), each.get("other_names")
    if not tag or not isinstance(names, list):
        yield Skipped("no name in the row")
    elif each.get("is_deleted"):
        yield Skipped("a deleted page")
    else:
        for name in names:
            yield from other_name(tag, name) if isinstance(name, str) else [Skipped("a name that is no text")]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _line(line: str) -> Any:
    try:
        return _loads(line)
    except ValueError:
        return None


def _loads(text: str) -> Any:
    """JSON may name halves of characters, which no file can hold: each becomes a question mark. Raises ValueError."""
    try:
        value = json.loads(text)
        if "\\ud" not in text.lower():
            return value
        return json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error

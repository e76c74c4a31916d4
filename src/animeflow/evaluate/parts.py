"""Pieces that every section of a report is made of: tables, figures, pictures, notes. Knows HTML; knows no run."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.errors import AnimeflowError
from ..image.decode import decode
from ..image.thumbnail import thumbnail
from .html import Content, Markup, element
from .numerals import NOT_RECORDED, plain

Cell = Content


def section(name: str, title: str, lead: str, *content: Content) -> Markup:
    return element("section", element("h2", title), element("p", lead, class_="lead"), *content, id=name)


def missing(words: str = NOT_RECORDED) -> Markup:
    return element("p", words[:1].upper() + words[1:] + ".", class_="missing")


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    *,
    caption: str | None = None,
    numbers: Sequence[int] = (),
    changed: Sequence[bool] = (),
) -> Markup:
    """A table whose first cell of a row is its header. `numbers` are the columns set to the right."""

    def kind(column: int) -> str | None:
        return "number" if column in numbers else None

    top = element(
        "thead", element("tr", [element("th", words, scope="col", class_=kind(k)) for k, words in enumerate(head)])
    )
    body = [
        element(
            "tr",
            element("th", row[0], scope="row", class_=kind(0)),
            [element("td", cell, class_=kind(k)) for k, cell in enumerate(row[1:], 1)],
            class_="changed" if i < len(changed) and changed[i] else None,
        )
        for i, row in enumerate(rows)
    ]
    about = element("caption", caption) if caption else None
    return element("div", element("table", about, top, element("tbody", body)), class_="wide")


def facts(values: Mapping[str, Cell]) -> Markup:
    """Name and value, one per line; an empty value says that it is not recorded."""
    rows = [
        [name, value if value not in (None, "") else element("span", NOT_RECORDED, class_="missing")]
        for name, value in values.items()
    ]
    return table(["What", "Value"], rows)


def chart(drawing: Markup, caption: str, note: str = "", *extra: Content) -> Markup:
    return element("figure", element("figcaption", caption, element("small", note) if note else None), *extra, drawing)


def behind(summary: str, *content: Content) -> Markup:
    """Kept, folded away: the numbers of a chart as a table."""
    return element("details", element("summary", summary), *content)


def code(words: Any) -> Markup:
    return element("code", str(words))


def setting(value: Any) -> str:
    """A setting as YAML would say it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(setting(each) for each in value) + "]"
    return str(value)


def counts(values: Mapping[str, Any], head: tuple[str, str], *, caption: str | None = None) -> Markup:
    return table(head, [[name, plain(number)] for name, number in values.items()], caption=caption, numbers=(1,))


def picture(path: Path, words: str, *, side: int = 192) -> Markup:
    """A picture file as an inline thumbnail. One that cannot be read becomes a note in its place."""
    try:
        pixels = decode(path.read_bytes()).pixels
    except (OSError, AnimeflowError) as error:
        return element("span", f"unreadable: {error}", class_="missing")
    data = base64.b64encode(thumbnail(pixels, side=side)).decode()
    height, width = pixels.shape[:2]
    return element("img", src=f"data:image/webp;base64,{data}", alt=words, width=width, height=height)


def words(name: str) -> str:
    """A name of ours as a person would write it."""
    return name.replace("_", " ").replace("+", " + ")

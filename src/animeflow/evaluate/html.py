"""HTML and SVG as nested calls in which text is always text. Knows escaping; knows no page."""

from __future__ import annotations

import html
from collections.abc import Iterable

VOID = frozenset({"br", "col", "hr", "img", "link", "meta"})


class Markup(str):
    """A string that is HTML already. Only `element` and `join` make one, so a caption can never become a tag."""

    __slots__ = ()


Content = str | int | float | None | Iterable["Content"]


def element(name: str, /, *content: Content, **attributes: str | float | bool | None) -> Markup:
    """`<name attributes>content</name>`. Plain strings are escaped, Markup is kept, None is left out, iterables are unrolled.

    Attributes: a trailing underscore is dropped (`class_`), others become hyphens (`aria_label`); None and False leave an
    attribute out, True gives it without a value; floats are written with at most two decimals.
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{join(content)}</{name}>")


def join(content: Content) -> Markup:
    """Content as Markup; see `element`."""
    if content is None:
        return Markup("")
    if isinstance(content, Markup):
        return content
    if isinstance(content, str):
        return Markup(html.escape(content))
    if isinstance(content, (int, float)):
        return Markup(html.escape(str(content)))
    return Markup("".join(join(part) for part in content))


def _attribute(key: str, value: str | float | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    if value is True:
        return f" {name}"
    text = (
        value
        if isinstance(value, str)
        else f"{value:.2f}".rstrip("0").rstrip(".")
        if isinstance(value, float)
        else str(value)
    )
    return f' {name}="{html.escape(text)}"'

"""Values and tables as Markdown, for cards. Knows values; knows no record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MISSING = "not recorded"


def table(rows: Mapping[str, Any], *, head: tuple[str, str] = ("", "")) -> str:
    lines = [f"| {cell(name)} | {cell(words(value))} |" for name, value in rows.items()]
    return "\n".join([f"| {head[0]} | {head[1]} |", "|---|---|", *lines])


def words(value: Any) -> str:
    """A value as the record holds it."""
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {words(item)}" for key, item in value.items()) or "none"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(words(item) for item in value) or "none"
    return str(value) or "none"


def cell(text: str) -> str:
    """Inside a Markdown table."""
    return str(text).replace("|", "\\|").replace("\n", " ")

"""Errors that speak to a person: what happened, where, why it matters, what to do. Knows no torch."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class AnimeflowError(Exception):
    """An error a user can act on; the command line shows its text without a traceback.

    Args:
        what: what was wrong, with the value.
        where: file, config key or picture it was found in.
        why: why it matters, when that is not obvious.
        do: the next thing to do.
    """

    def __init__(self, what: str, *, where: str | None = None, why: str | None = None, do: str | None = None) -> None:
        self.what, self.where, self.why, self.do = what, where, why, do
        lines = [what]
        lines += [f"  where: {where}"] if where else []
        lines += [f"  why:   {why}"] if why else []
        lines += [f"  do:    {do}"] if do else []
        super().__init__(_printable("\n".join(lines)))

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions cross process pools; the default would lose the keyword arguments.
        return _rebuild, (type(self), self.what, self.where, self.why, self.do)


def _printable(text: str) -> str:
    """A message names what files of strangers say: it can be printed, and nothing in it moves a terminal's cursor."""
    if text.isprintable():
        return text
    kept = (sign if sign in "\n\t" or ord(sign) > 159 or sign.isprintable() else f"\\x{ord(sign):02x}" for sign in text)
    return "".join(kept).encode("utf-8", "backslashreplace").decode()


def _rebuild(
    kind: type[AnimeflowError], what: str, where: str | None, why: str | None, do: str | None
) -> AnimeflowError:
    return kind(what, where=where, why=why, do=do)


class ConfigError(AnimeflowError):
    """A setting is unknown, missing or impossible."""


class DataError(AnimeflowError):
    """A file of ours or of the user's is missing, broken or not what its manifest says."""


class MissingExtra(AnimeflowError):
    """An optional package is not installed."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`" (did you mean 'x'?)"` for the nearest known word, or `""` when nothing is near."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.55)
    return f" (did you mean '{near[0]}'?)" if near else ""

"""The values of one long JSON array, one after another. Knows JSON; knows no post."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ...core.errors import DataError

PIECE = 1 << 20  # characters
LONGEST = 64 << 20  # of one value
_SPACE = re.compile(r"[ \t\n\r]*")
_AFTER = (",", "]", " ", "\t", "\n", "\r")
_DECODER = json.JSONDecoder()


def values_of(file: Path) -> Iterator[Any]:
    """Raises DataError where the file is cut, of another encoding, or no array, once that is reached."""
    try:
        with open(file, encoding="utf-8-sig") as text:
            yield from _Text(text.read).values()
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8", why=str(error), do="save it as UTF-8") from error
    except RecursionError as error:
        raise DataError(f"{file} is nested too deeply for a dump", do="fetch the dump again") from error
    except ValueError as error:
        why = str(error)[:160]
        raise DataError(f"{file} is neither a JSON array nor JSON lines", why=why, do="fetch the dump again") from error


class _Text:
    """What was read of the file and not yet taken."""

    def __init__(self, read: Callable[[int], str]) -> None:
        self._read, self._text, self._at = read, "", 0

    def values(self) -> Iterator[Any]:
        self._sign("[")
        if self._next() == "]":
            self._at += 1
        else:
            yield self._value()
            while self._sign(",]") == ",":
                yield self._value()
        if sign := self._next():
            raise ValueError(f"{sign!r} behind the array")

    def _value(self) -> Any:
        """A value and the sign behind it are in memory together: 12 may be the beginning of 123, or of 12.5."""
        self._next()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
                if self._text[end : end + 1] in _AFTER or not self._more():
                    self._at = end
                    return value
            except json.JSONDecodeError:
                if len(self._text) - self._at > LONGEST or not self._more():
                    raise

    def _sign(self, wanted: str) -> str:
        sign = self._next()
        if not sign or sign not in wanted:
            raise ValueError(f"{sign!r} where one of {wanted!r} is expected" if sign else "it ends within the array")
        self._at += 1
        return sign

    def _next(self) -> str:
        """The next sign that is no space; none at the end."""
        while True:
            found = _SPACE.match(self._text, self._at)
            self._at = found.end() if found else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _more(self) -> bool:
        left = self._text[self._at :]
        piece = self._read(max(PIECE, len(left)))
        self._text, self._at = left + piece, 0
        return bool(piece)

"""What is being translated: values that were told, words they became, and a line for each. Knows no key's meaning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ...core.errors import did_you_mean
from ..lora.words import word
from .toml_file import Told

BECAME, NOTE, WARNING, ERROR = "became", "note", "warning", "error"


@dataclass(frozen=True)
class Line:
    """What one key of kohya's came to: `became` words, needs none (`note`), has no counterpart (`warning`), or must not be dropped
    silently (`error`)."""

    level: str
    said: str
    text: str


@dataclass(frozen=True)
class Word:
    """A setting of ours, and what it comes from."""

    key: str
    value: Any
    origin: str

    def __str__(self) -> str:
        return word(self.key, self.value)


class Book:
    """Collects lines and words; every key that is asked for counts as read.

    Args:
        told: the keys of the run.
    """

    def __init__(self, told: Mapping[str, Told]) -> None:
        self.told = dict(told)
        self.read: set[str] = set()
        self.lines: list[Line] = []
        self.words: dict[str, Word] = {}

    def has(self, key: str) -> bool:
        return key in self.told

    def get(self, key: str, default: Any = None) -> Any:
        """The value, or what kohya takes without one."""
        self.read.add(key)
        return self.told[key].value if key in self.told else default

    def number(self, key: str, default: float | None = None) -> float | None:
        """A number, which may stand in quotes. An error line for anything else."""
        value = self.get(key, default)
        if value is None or isinstance(value, bool):
            return default
        try:
            return float(value)
        except (TypeError, ValueError):
            if value != "":
                self.error(key, "is no number")
            return default

    def yes(self, key: str) -> bool:
        """A switch that is on."""
        value = self.get(key, False)
        return value.strip().lower() == "true" if isinstance(value, str) else bool(value)

    def words_of(self, key: str) -> dict[str, str]:
        """A list of `name=value`, as kohya's *_args have; a string is taken apart at spaces."""
        value = self.get(key)
        parts = value.split() if isinstance(value, str) else value or []
        pairs = [str(part).partition("=") for part in parts]
        return {name.strip(): rest.strip() for name, _, rest in pairs if name.strip()}

    def said(self, key: str) -> str:
        """`key = value` as it stands in the file, or that it does not."""
        return f"{key} = {shown(self.told[key].value)}" if key in self.told else f"{key} is not given"

    def set(self, key: str, value: Any, *, of: str, said: str | None = None, why: str = "") -> None:
        """A word of ours, from the key `of`; `why` says what changed on the way."""
        self.read.add(of)
        made = Word(key, value, said or self.said(of))
        self.words[key] = made
        self.lines.append(Line(BECAME, made.origin, f"{made}{f' ({why})' if why else ''}"))

    def note(self, of: str, text: str, *, said: str | None = None) -> None:
        self._line(NOTE, of, text, said)

    def warn(self, of: str, text: str, *, said: str | None = None) -> None:
        self._line(WARNING, of, text, said)

    def error(self, of: str, text: str, *, said: str | None = None) -> None:
        self._line(ERROR, of, text, said)

    def unknown(self, key: str, known: Iterable[str], *, said: str | None = None, of: str | None = None) -> None:
        """A key that kohya's scripts are not known to have."""
        self._line(
            WARNING,
            of or key,
            f"not a key of kohya's that is known here{did_you_mean(key, known)}: nothing came of it",
            said,
        )

    def _line(self, level: str, of: str, text: str, said: str | None) -> None:
        self.read.add(of)
        self.lines.append(Line(level, said or self.said(of), text))

    def levels(self, level: str) -> list[Line]:
        return [line for line in self.lines if line.level == level]


def shown(value: Any) -> str:
    """A value as TOML writes it, cut where it is long."""
    text = str(value).lower() if isinstance(value, bool) else f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def plain(number: float) -> int | float:
    """A whole number without its point."""
    return int(number) if float(number).is_integer() and abs(number) < 2**53 else float(number)

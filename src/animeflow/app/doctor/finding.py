"""One line of the doctor: a level, what was found, why it matters, and the one thing that mends it. Knows no check."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

OK, WARNING, ERROR = "ok", "warning", "error"
LEVELS = (OK, WARNING, ERROR)


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        name: of what was looked at.
        level: `ok`, `warning` (it works, with less) or `error` (it does not).
        what: the state, in words and numbers.
        why: why it matters, where that is not obvious.
        do: one command or action; an `ok` may have one, too: what would give more.
        trace: of a check that broke.
    """

    name: str
    level: str
    what: str
    why: str | None = None
    do: str | None = None
    trace: str | None = None

    def record(self) -> dict[str, Any]:
        """JSON, without what is not said."""
        return {key: value for key, value in asdict(self).items() if value is not None}


def ok(name: str, what: str, *, do: str | None = None) -> Finding:
    return Finding(name, OK, what, do=do)


def warning(name: str, what: str, *, why: str | None = None, do: str) -> Finding:
    return Finding(name, WARNING, what, why, do)


def error(name: str, what: str, *, why: str | None = None, do: str) -> Finding:
    return Finding(name, ERROR, what, why, do)


def count(number: int, noun: str) -> str:
    """`1 error`, `2 errors`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"

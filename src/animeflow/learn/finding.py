"""One line of an audit: what was looked at, how it is, why that matters and what to do. Knows no check."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

OK, WARNING, ERROR = "ok", "warning", "error"


@dataclass(frozen=True)
class Finding:
    """`level` is `ok`, `warning` (it works, and somebody should know) or `error` (it does not do what it says)."""

    name: str
    level: str
    what: str
    why: str | None = None
    do: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Without what is not said."""
        return {key: value for key, value in asdict(self).items() if value is not None}


def listed(names: Iterable[str], *, most: int = 3) -> str:
    """The first names, and how many more there are."""
    every = list(names)
    return ", ".join(every[:most]) + (f" and {len(every) - most} more" if len(every) > most else "")

"""What `animeflow show` says of one path. Knows words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Shown:
    """`what` it is in one sentence; facts by name, in the order in which a person wants them; hints on what to do with it."""

    what: str
    facts: dict[str, Any] = field(default_factory=dict)
    hints: tuple[str, ...] = ()

    def to_json(self, path: str) -> dict[str, Any]:
        told = {key: value for key, value in self.facts.items() if value not in (None, "", {}, [])}
        return {"path": path, "what": self.what, "facts": told, "hints": list(self.hints)}

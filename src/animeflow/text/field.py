"""Facts of a picture that are no tags, as a section of its captions: where it comes from, what drew it. Knows facts and words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..core.errors import ConfigError, did_you_mean

WHERE = "text.extra"
OPTIONS = ("from", "words")


@dataclass(frozen=True)
class Field:
    """One section of a person's own.

    Args:
        path: of the fact, with dots: `source`, `truth.palette`, `extra.lighting`.
        words: what is written for a value; where there are any, a value without a word is not written.
    """

    path: str
    words: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, node: Any) -> Field:
        """From the node of a config: a path, or `{from: PATH, words: {VALUE: WORD}}`. Raises ConfigError for anything else."""
        where = f"{WHERE}.{name}"
        node = {"from": node} if isinstance(node, str) else node
        if not isinstance(node, Mapping) or not isinstance(node.get("from"), str) or not node["from"]:
            raise ConfigError(
                f"{node!r} names no fact",
                where=where,
                do="write it like source, or {from: source, words: {pixiv: art}}",
            )
        for key in node:
            if key not in OPTIONS:
                raise ConfigError(
                    f"unknown setting '{key}'{did_you_mean(str(key), OPTIONS)}",
                    where=where,
                    do=f"known here: {', '.join(OPTIONS)}",
                )
        return cls(node["from"], {str(value): str(word) for value, word in (node.get("words") or {}).items()})

    def read(self, facts: Mapping[str, Any]) -> list[str]:
        """What is written of a picture: one word per value, none where the fact is missing."""
        value: Any = facts
        for part in self.path.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        values = value if isinstance(value, list | tuple) else [] if value is None or value == "" else [value]
        words = [
            self.words.get(str(each), "") if self.words else str(each)
            for each in values
            if isinstance(each, str | int | float)
        ]
        return [word for word in words if word]

    def facts(self) -> dict[str, Any]:
        """JSON, for content addresses."""
        return {"from": self.path, "words": dict(self.words)}


def fields_of(node: Mapping[str, Any] | None) -> dict[str, Field]:
    """All extra sections of a config: name -> field."""
    return {str(name): Field.of(str(name), options) for name, options in (node or {}).items()}

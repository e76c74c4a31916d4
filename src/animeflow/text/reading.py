"""A prompt as it is read: what became of every part, in words. Knows strings; knows no dictionary."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from .tags import to_words

KEPT, READ, COMPOSED, AMBIGUOUS, UNKNOWN, SENTENCE, BLOCKED = (
    *("kept", "read", "composed", "ambiguous", "unknown", "sentence", "blocked"),
)


@dataclass(frozen=True)
class Part:
    """A part of a prompt, and what became of it.

    Attributes:
        typed: as it was; empty where it is forbidden.
        read: as it is now.
        status: kept, read, composed, ambiguous, unknown, sentence or blocked.
        choice: the tags that it may mean, the one that was taken first.
    """

    typed: str
    read: str
    status: str
    choice: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reading:
    """A prompt as it is read: the text, its language, every part, and how it was typed, without what is forbidden."""

    text: str
    language: str
    parts: tuple[Part, ...]
    typed: str

    @property
    def counts(self) -> Counter[str]:
        return Counter(part.status for part in self.parts)

    def lines(self) -> list[str]:
        """The report in words, without the parts that were left as they are."""
        found = [f"language: {self.language}"]
        for part in self.parts:
            if part.status in (READ, COMPOSED):
                found.append(f"{part.typed} -> {part.read}")
            elif part.status == AMBIGUOUS:
                others = " or ".join(to_words(name) for name in part.choice[1:])
                found.append(f"{part.typed} -> {part.read}; it may also mean {others}")
            elif part.status == UNKNOWN:
                found.append(f"{part.typed}: not known, kept as it is")
        if left := self.counts[SENTENCE]:
            found.append(f"parts of sentences, left alone: {left}")
        if taken := self.counts[BLOCKED]:
            found.append(f"forbidden parts, taken out: {taken}")
        return found

    def to_json(self) -> dict[str, Any]:
        parts = [{"typed": p.typed, "read": p.read, "status": p.status, "choice": list(p.choice)} for p in self.parts]
        return {"text": self.text, "language": self.language, "parts": parts, "counts": dict(self.counts)}

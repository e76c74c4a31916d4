"""One thing that a person said of a picture, as a line of a log. Knows JSON and hashes; knows no file and no other event."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ..catalogue.post import ORIGINS
from ..core.errors import ConfigError, did_you_mean
from ..core.files import canonical, sha256

REVIEWS = ("keep", "reject", "flag", "none")
KINDS = {"review": REVIEWS, "origin": (*ORIGINS, "none"), "undo": None}
"""What an event is about, and what may be said: a verdict, where the picture is from, or that an earlier event is taken back."""
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Decision:
    """What a person wants to say; the log makes an Event of it.

    Attributes:
        new: keep, reject, flag or none of a review; of `kind="origin"` an origin or none. `none` takes one's own word back.
        reason: a word or two: ai, watermark, lowres, crop, dup, ...
        dwell_ms: how long the picture was looked at.
    """

    sha256: str
    new: str
    reason: str = ""
    dwell_ms: int | None = None
    kind: str = "review"

    def checked(self) -> Decision:
        """Itself. Raises ConfigError for a word that cannot be said."""
        known = KINDS.get(self.kind)
        if known is None:
            raise ConfigError(f"'{self.kind}' is no kind of decision", do="say review or origin")
        if self.new not in known:
            raise ConfigError(
                f"'{self.new}' cannot be decided{did_you_mean(self.new, known)}",
                do=f"choose one of: {', '.join(known)}",
            )
        if not _SHA256.fullmatch(self.sha256):
            raise ConfigError(f"'{self.sha256}' is no sha256 of a picture", do="give its 64 hex digits, or its path")
        return self


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the log.

    Attributes:
        seq: its number in this log, from 1.
        ts: when, ISO in UTC with microseconds; later than every event that the log held then.
        old, new: what the picture was to all reviewers before, and what this one says.
        batch: pictures that were decided with one key. tool_version: of the program that wrote it.
        id: the same in every log that holds the event.
        over: ids of other people's words that this one settles, because its reviewer decided a question that they had left open.
        undoes: id of the event that is taken back, for the kind `undo`.
    """

    seq: int
    ts: str
    reviewer: str
    sha256: str
    old: str
    new: str
    reason: str
    dwell_ms: int | None
    batch: str | None
    tool_version: str
    kind: str = "review"
    over: tuple[str, ...] = ()
    undoes: str | None = None
    id: str = ""

    def line(self) -> bytes:
        """JSON and a newline; what says nothing is left out."""
        facts: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        facts["over"] = list(self.over)
        quiet: dict[str, Any] = {"kind": "review", "over": [], "undoes": None}
        kept = {name: value for name, value in facts.items() if name not in quiet or value != quiet[name]}
        return json.dumps(kept, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> Event:
        """The inverse of `line`. Raises ValueError for anything else."""
        facts = json.loads(line)
        if not isinstance(facts, dict):
            raise ValueError("not an object")
        try:
            event = cls(
                *(int(facts["seq"]), str(facts["ts"]), _word(facts["reviewer"]), str(facts["sha256"])),
                *(_word(facts["old"]), _word(facts["new"]), _word(facts.get("reason") or ""), facts.get("dwell_ms")),
                *(facts.get("batch"), _word(facts.get("tool_version") or "")),
                kind=_word(facts.get("kind", "review")), over=tuple(facts.get("over") or ()),
                undoes=facts.get("undoes"), id=str(facts.get("id") or identity(facts)),
            )  # fmt: skip
        except (KeyError, TypeError) as error:
            raise ValueError(f"no {error}" if isinstance(error, KeyError) else str(error)) from error
        if event.kind not in KINDS or not _SHA256.fullmatch(event.sha256) or not _said(event):
            raise ValueError(f"'{event.kind}' '{event.new}' of '{event.sha256}' is no decision")
        return event


def identity(facts: Mapping[str, Any]) -> str:
    """32 hex digits of what was said, by whom, of what, when and as which event of the log that it was first written to."""
    return sha256(canonical({name: value for name, value in facts.items() if name != "id"}))[:32]


def after(now: datetime, last: str) -> str:
    """The time to write: now, or just after the last event where this machine's clock is behind."""
    if last:
        now = max(now, datetime.fromisoformat(last) + timedelta(microseconds=1))
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _word(value: Any) -> str:
    return sys.intern(str(value))  # of millions of events most share their words


def _said(event: Event) -> bool:
    known = KINDS[event.kind]
    return event.undoes is not None if known is None else event.new in known

"""From the events of one picture to what people say of it. Pure: the same events in any order give the same answer.

Every reviewer has one word, the last one; a word that was settled by somebody who saw it, or that was taken back, counts no more.
If the words that are left agree, that is the answer. If they do not, the picture is flagged, and nobody's word is lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .event import Event

CAUTION = ("ai", "ai_assisted", "drawn_by_program", "unknown", "human")
"""Of origins that people do not agree on, the first of these counts until they do."""


@dataclass(frozen=True)
class State:
    """What people say of one picture.

    Attributes:
        review: keep, reject, flag or none.
        reason: of those who said so; of a dispute who said what.
        reviewers: whose words count, sorted. reviewed_at: the last of them.
        disputed: one says keep and another reject, or they differ about the origin.
        origin: as people say, None where nobody does.
    """

    review: str = "none"
    reason: str = ""
    reviewers: tuple[str, ...] = ()
    reviewed_at: str | None = None
    disputed: bool = False
    origin: str | None = None


NOTHING = State()


def fold(events: Iterable[Event]) -> State:
    """The state of the picture that all `events` are about."""
    heads = standing(events)
    votes = [event for event in heads if event.kind == "review"]
    origins = [event for event in heads if event.kind == "origin"]
    if not heads:
        return NOTHING
    said = {event.new for event in votes}
    differ = len({event.new for event in origins}) > 1
    disputed = differ or {"keep", "reject"} <= said
    review = "none" if not said else said.copy().pop() if len(said) == 1 else "flag"
    if differ and review in ("none", "keep"):
        review = "flag"
    counted = votes if not disputed else heads
    if disputed or len(said) > 1:
        reason = "; ".join(f"{each.reviewer}: {' '.join(filter(None, (each.new, each.reason)))}" for each in counted)
    else:
        reason = "; ".join(sorted({event.reason for event in votes if event.reason}))
    origin = min((event.new for event in origins), key=CAUTION.index, default=None)
    people = tuple(sorted({event.reviewer for event in heads}))
    return State(review, reason, people, max(event.ts for event in heads), disputed, origin)


def standing(events: Iterable[Event]) -> list[Event]:
    """The words that count, by reviewer: not taken back, not followed by another of the same person, not settled."""
    told = _in_force(events)
    settled = {one for event in told for one in event.over}
    last: dict[tuple[str, str], Event] = {(event.kind, event.reviewer): event for event in told}
    heads = [event for event in last.values() if event.id not in settled and event.new != "none"]
    return sorted(heads, key=lambda event: (event.reviewer, event.kind))


def settles(events: Iterable[Event], *, reviewer: str, kind: str, new: str) -> tuple[str, ...]:
    """Ids of others' words that a new word settles: all in a dispute, flags otherwise. Raising a flag settles nothing."""
    if new in ("flag", "none"):
        return ()
    heads = [event for event in standing(events) if event.kind == kind]
    others = [event for event in heads if event.reviewer != reviewer]
    open_question = len({event.new for event in heads} - {"flag"}) > 1
    return tuple(sorted(event.id for event in others if open_question or event.new == "flag"))


def _in_force(events: Iterable[Event]) -> list[Event]:
    """Without undos and what they take back, in the order of time. An undo is later than what it undoes, so an undo of an undo is
    seen before it from behind."""
    order = sorted(events, key=lambda event: (event.ts, event.id))
    undone: set[str | None] = set()
    for event in reversed(order):
        if event.kind == "undo" and event.id not in undone:
            undone.add(event.undoes)
    return [event for event in order if event.kind != "undo" and event.id not in undone]

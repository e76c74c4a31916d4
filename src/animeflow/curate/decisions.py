"""The log of what people decided: a file that only grows, and the state of every picture that follows from it.

`decisions.jsonl` has one Event a line. What `append` returned is on disk. A line that a crash cut short was never promised: the
next writer puts it into `decisions.torn` and says so. Two writers take turns by a lock beside it. Knows no picture and no page.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from .. import __version__
from ..core.errors import ConfigError, DataError
from ..core.files import sync
from ..core.lock import Lock, NoLocks
from .event import Decision, Event, after, identity
from .fold import NOTHING, State, fold, settles

log = logging.getLogger(__name__)

NAME, TORN = "decisions.jsonl", "decisions.torn"
_MODE = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)


class DecisionLog:
    """The log in `folder`; a missing one is empty, and made by the first event.

    Args:
        folder: of the catalogue.
        name: of the file.
    """

    def __init__(self, folder: str | Path, *, name: str = NAME) -> None:
        self.folder, self.file = Path(folder), Path(folder) / name
        self._events: dict[str, list[Event]] = {}
        self._states: dict[str, State] = {}
        self._read = 0  # bytes of the file that are folded
        self.seq, self.last = 0, ""
        self.torn = 0  # bytes behind the last whole line, as last seen or recovered
        self.refresh()

    def __len__(self) -> int:
        """Events."""
        return sum(map(len, self._events.values()))

    # reading ---------------------------------------------------------------------------------------------------------

    def refresh(self) -> list[Event]:
        """Read what was written since, by anybody; returns those events. A line that is still being written is left for later."""
        if not self.file.exists():
            return []
        with open(self.file, "rb") as file:
            file.seek(self._read)
            return self._take(file.read())

    def _take(self, data: bytes) -> list[Event]:
        whole, events = data.rfind(b"\n") + 1, []
        for line in data[:whole].splitlines(keepends=True):
            try:
                event = Event.parse(line)
            except ValueError as error:
                raise DataError(
                    f"a line of the log is no decision: {error}",
                    where=f"{self.file}, byte {self._read}",
                    why="what people decided is not guessed at",
                    do="mend or take out that line with an editor; keep a copy",
                ) from error
            events.append(event)
            self._read += len(line)
        for event in events:
            self._put(event)
        self.torn = len(data) - whole
        return events

    def _put(self, event: Event) -> None:
        self._events.setdefault(event.sha256, []).append(event)
        self._states.pop(event.sha256, None)
        self.seq, self.last = max(self.seq, event.seq), max(self.last, event.ts)

    def state(self, sha256: str) -> State:
        """What people say of one picture, after the last `refresh` or append."""
        if sha256 not in self._events:
            return NOTHING
        if sha256 not in self._states:
            self._states[sha256] = fold(self._events[sha256])
        return self._states[sha256]

    def states(self) -> Mapping[str, State]:
        """Of every picture that somebody said something of, by sha256 in its order."""
        return {sha: self.state(sha) for sha in sorted(self._events)}

    def history(self, sha256: str) -> list[Event]:
        """All that was ever said of a picture, in the order of time."""
        return sorted(self._events.get(sha256, []), key=lambda event: (event.ts, event.id))

    def event(self, seq: int) -> Event:
        """Raises ConfigError where there is none of this number."""
        for events in self._events.values():
            for event in events:
                if event.seq == seq:
                    return event
        raise ConfigError(
            f"there is no decision {seq}",
            where=str(self.file),
            do=f"numbers go from 1 to {self.seq}" if self.seq else "nothing was decided yet",
        )

    def queue(self) -> list[str]:
        """Pictures that wait for a word: flagged by somebody, or disputed. By sha256."""
        return [sha for sha, state in self.states().items() if state.review == "flag" or state.disputed]

    # writing ---------------------------------------------------------------------------------------------------------

    def append(self, decisions: Iterable[Decision], *, reviewer: str, batch: str | None = None) -> list[Event]:
        """Write what one person decided; all of it is on disk when this returns.

        `old` and what the words settle are looked up under the lock, so that two writers never speak past each other.
        """
        wanted, name = [decision.checked() for decision in decisions], _named(reviewer)
        with self._turn() as handle:
            events = []
            for decision in wanted:
                about = self._events.get(decision.sha256, [])
                event = Event(
                    self.seq + 1,
                    after(datetime.now(UTC), self.last),
                    name,
                    decision.sha256,
                    old=self._old(decision.sha256, decision.kind),
                    new=decision.new,
                    reason=decision.reason,
                    dwell_ms=decision.dwell_ms,
                    batch=batch,
                    tool_version=__version__,
                    kind=decision.kind,
                    over=settles(about, reviewer=name, kind=decision.kind, new=decision.new),
                )
                event = _signed(event)
                self._put(event)
                events.append(event)
            self._write(handle, events)
        return events

    def undo(self, seq: int, *, reviewer: str) -> Event:
        """Take one event back, by a new one. What stood before it stands again; an undo can be undone."""
        name = _named(reviewer)
        with self._turn() as handle:
            target = self.event(seq)
            kind = self._about(target)
            event = Event(
                self.seq + 1,
                after(datetime.now(UTC), self.last),
                name,
                target.sha256,
                old=self._old(target.sha256, kind),
                new="none",
                reason="",
                dwell_ms=None,
                batch=None,
                tool_version=__version__,
                kind="undo",
                undoes=target.id,
            )
            later = fold([*self._events[target.sha256], replace(event, id="new")])
            new = (later.origin or "none") if kind == "origin" else later.review
            event = _signed(replace(event, new=new))
            self._put(event)
            self._write(handle, [event])
        return event

    def merge(self, other: DecisionLog) -> list[Event]:
        """Take another log's events that this one lacks; returns them. Twice, or the other way round, ends in the same state."""
        with self._turn() as handle:
            known = {event.id for events in self._events.values() for event in events}
            new: list[Event] = []
            for event in sorted(other.events(), key=lambda event: (event.ts, event.id)):
                if event.id not in known:
                    new.append(replace(event, seq=self.seq + 1))
                    known.add(event.id)
                    self._put(new[-1])
            self._write(handle, new)
        return new

    def events(self) -> Iterator[Event]:
        """All of them, in no particular order."""
        for events in self._events.values():
            yield from events

    def _about(self, event: Event) -> str:
        """What an event is about; of an undo, what that is about which it took back."""
        by_id = {each.id: each for each in self._events[event.sha256]}
        while event.kind == "undo" and event.undoes in by_id:
            event = by_id[event.undoes]
        return "review" if event.kind == "undo" else event.kind

    def _old(self, sha256: str, kind: str) -> str:
        state = self.state(sha256)
        return state.review if kind == "review" else state.origin or "none"

    @contextlib.contextmanager
    def _turn(self) -> Iterator[int]:
        """The file, read to its end while no other writes, with nothing torn behind it. On an error what was put in memory is read
        anew."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._locked():
            new = not self.file.exists()
            handle = os.open(self.file, _MODE, 0o644)
            try:
                self.refresh()
                self._recover(handle)
                yield handle
                if new:
                    sync(self.folder)
            except BaseException:
                self._events, self._states, self._read, self.seq, self.last = {}, {}, 0, 0, ""
                with contextlib.suppress(DataError):
                    self.refresh()
                raise
            finally:
                os.close(handle)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        lock = Lock(self.file.with_name(f".{self.file.name}.lock"), signed=True)
        try:
            lock.take(wait=True)
        except NoLocks as error:
            raise DataError(
                "nothing was written: this file system has no locks",
                where=str(self.file),
                why="two people who decide at once would write into each other's lines",
                do="move the catalogue's folder to a disk that has them, such as one of this machine",
            ) from error
        try:
            yield
        finally:
            lock.release()

    def _recover(self, handle: int) -> None:
        """Take what a crash left behind the last whole line out of the log, into a file beside."""
        if not self.torn:
            return
        os.lseek(handle, self._read, os.SEEK_SET)
        left = os.read(handle, self.torn)
        with open(self.folder / TORN, "ab") as beside:
            beside.write(left + b"\n")
            beside.flush()
            os.fsync(beside.fileno())
        os.ftruncate(handle, self._read)
        os.fsync(handle)
        log.warning(
            "%s ended in the middle of a line (%d bytes): a writer was stopped before it had said that the decision is "
            "kept; the piece is in %s, all before it is whole", self.file, len(left), self.folder / TORN,
        )  # fmt: skip
        self.torn = 0

    def _write(self, handle: int, events: list[Event]) -> None:
        data = b"".join(event.line() for event in events)
        try:
            sent = 0
            while sent < len(data):
                sent += os.write(handle, data[sent:])
            os.fsync(handle)
        except OSError as error:
            os.ftruncate(
                handle, self._read
            )  # all or nothing: a half of a batch would be a decision that nobody confirmed
            raise DataError(
                f"nothing was written: {error.strerror}", where=str(self.file), do="make room, and decide again"
            ) from error
        self._read += len(data)


def _signed(event: Event) -> Event:
    facts = {name: getattr(event, name) for name in event.__slots__ if name != "id"}
    return replace(event, id=identity({**facts, "over": list(event.over)}))


def _named(reviewer: str) -> str:
    if not reviewer.strip() or "\n" in reviewer:
        raise ConfigError("nobody is named who decides", where="reviewer", do="give --reviewer NAME")
    return reviewer.strip()

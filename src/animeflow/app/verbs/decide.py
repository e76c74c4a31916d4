"""Write what people decided into the catalogue's log: keep, reject, flag, origins, undo; join several people's logs."""

from __future__ import annotations

import getpass
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...core.errors import ConfigError, DataError, did_you_mean
from ..compose import compose
from ..wiring import Workspace

log = logging.getLogger(__name__)


def run(
    overrides: Sequence[str],
    *,
    logs: Sequence[str] = (),
    keep: Sequence[str] = (),
    reject: Sequence[str] = (),
    flag: Sequence[str] = (),
    origin: Sequence[tuple[str, str]] = (),
    reason: str = "",
    reviewer: str | None = None,
    undo: int | None = None,
    dry_run: bool = False,
) -> None:
    from ...curate.copies import ABOUT_THE_FILE
    from ...curate.decisions import DecisionLog
    from ...curate.event import Decision
    from ...curate.find import find

    folder = Workspace.to_write(compose(overrides)).catalogue
    if not (folder / "catalogue.parquet").exists():
        raise DataError("there is no catalogue here", where=str(folder), do="run 'animeflow catalogue' first")
    asked = [
        (word, "review", new) for new, words in (("keep", keep), ("reject", reject), ("flag", flag)) for word in words
    ]
    asked += [(word, "origin", new) for new, word in origin]
    others = [_other(Path(name)) for name in logs]
    book = DecisionLog(folder)
    found = find(folder, [word for word, _, _ in asked])
    paths = {sha: path for _, sha, path in found}
    decisions = [
        Decision(sha, new, reason if kind == "review" else "", kind=kind).checked()
        for (_, sha, _), (_, kind, new) in zip(found, asked, strict=True)
    ]
    _contradictions(decisions, paths)
    if reason not in ABOUT_THE_FILE and (nearly := did_you_mean(reason, ABOUT_THE_FILE)):
        log.warning("'%s' is no reason that speaks of the file alone%s", reason, nearly)
    who = reviewer or _somebody() if decisions or undo is not None else ""
    if dry_run:
        _foresee(book, decisions, others, undo, paths)
        return
    for name, other in zip(logs, others, strict=True):
        new = book.merge(other)
        log.info("%s: %s new of %s decisions", name, f"{len(new):,}", f"{len(other):,}")
    if undo is not None:
        event = book.undo(undo, reviewer=who)
        now = {"none": "undecided", "flag": "flagged"}.get(event.new, event.new)
        log.info("decision %d is taken back (as %d): %s is %s again", undo, event.seq, event.sha256[:12], now)
    for event in book.append(decisions, reviewer=who) if decisions else ():
        after = book.state(event.sha256)
        told = f", now disputed: {after.reason}" if after.disputed else ""
        log.info("%d: %s %s -> %s (%s)%s", event.seq, paths[event.sha256], event.old, event.new, who, told)
    _tell(book)


def _contradictions(decisions: Sequence[Any], paths: dict[str, str]) -> None:
    said: dict[tuple[str, str], str] = {}
    for each in decisions:
        if said.setdefault((each.sha256, each.kind), each.new) != each.new:
            raise ConfigError(
                f"{paths[each.sha256]} is both {said[each.sha256, each.kind]} and {each.new}", do="say one of them"
            )


def _other(file: Path) -> Any:
    from ...curate.decisions import DecisionLog

    if not file.is_file():
        raise ConfigError(f"there is no log {file}", where="--log", do="give another person's decisions.jsonl")
    return DecisionLog(file.parent, name=file.name)


def _foresee(
    book: Any, decisions: Sequence[Any], others: Sequence[Any], undo: int | None, paths: dict[str, str]
) -> None:
    known = {event.id for event in book.events()}
    for other in others:
        new = {event.id for event in other.events()} - known
        log.info("would take %s of %s decisions from %s", f"{len(new):,}", f"{len(other):,}", other.file)
    if undo is not None:
        event = book.event(undo)
        log.info("would take back %d: %s said %s of %s", undo, event.reviewer, event.new, event.sha256[:12])
    for each in decisions:
        log.info("would write: %s -> %s", paths[each.sha256], each.new)


def _tell(book: Any) -> None:
    counts: dict[str, int] = {}
    states = book.states()
    for state in states.values():
        for name in (state.review, "origin" if state.origin else None):
            counts[name or ""] = counts.get(name or "", 0) + 1
    told = ", ".join(f"{name} {counts[name]:,}" for name in ("keep", "reject", "flag", "origin") if name in counts)
    log.info("%s decisions in %s: %s", f"{len(book):,}", book.file, told or "none stands")
    if waiting := [state for state in states.values() if state.disputed]:
        log.info("%s pictures are disputed and stay out until somebody decides on them again", f"{len(waiting):,}")


def _somebody() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:
        raise ConfigError("nobody is named who decides", where="--reviewer", do="give --reviewer NAME") from error

"""What decides on a picture, in order, as a person reads it: a query's rules and what is built in. Knows words and SQL."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .query import Query
from .rules import Rule

BUILT_IN = "built in"
REST = "rest"


@dataclass(frozen=True)
class Step:
    """Attributes:
    name: of the rule; of a built-in step a word with a dot, which no rule of the same name can be confused with.
    action: drop or keep. what: its condition. why: its reason.
    of: the query that has it, or `built in`. setting: what turns a built-in step off.
    sql: what it asks of every row; None for a step that looks at the set as a whole.
    """

    name: str
    action: str
    what: str
    why: str
    of: str = BUILT_IN
    setting: str = ""
    sql: str | None = None
    approved_by: str | None = None
    origin: str | None = None

    def as_dict(self) -> dict[str, Any]:
        facts = {
            name: getattr(self, name) for name in ("name", "action", "what", "why", "of", "setting", "approved_by")
        }
        return {name: value for name, value in facts.items() if value}


def steps(query: Query, columns: Mapping[tuple[str, str], str]) -> list[Step]:
    """All that is in force, in the order in which it decides; the last one takes everything."""
    return list(_steps(query, columns))


def _steps(query: Query, columns: Mapping[tuple[str, str], str]) -> Iterator[Step]:
    setting = f"decisions={query.decisions}"
    if query.decisions != "ignored":
        yield Step("people.disputed", "drop", "disputed", "people differ about it; it waits for one more word", BUILT_IN,
                   setting, "disputed")  # fmt: skip
        yield Step(
            "people.rejected",
            "drop",
            "review = 'reject'",
            "somebody rejected it",
            BUILT_IN,
            setting,
            "review = 'reject'",
        )
    if query.decisions == "reviewed":
        yield Step("people.unseen", "drop", "review <> 'keep'", "nobody kept it", BUILT_IN, setting, "review <> 'keep'")
    for origin, policy in query.provenance.items():
        if policy.forbidden:
            fits, setting = f"origin = '{origin}'", f"provenance.{origin}=forbid"
            yield Step(f"origin.{origin}", "drop", fits, "the set has none of this origin", BUILT_IN, setting, fits)
    for rule in query.rules:
        yield _of_rule(rule, rule.condition.sql(columns))
    if query.groups == "best":
        yield Step("copies.rejected", "drop", "a copy of it was rejected, for what it shows",
                   "what somebody rejected does not come back as another file", setting="groups=best")  # fmt: skip
        yield Step("copies", "drop", "another file of the same drawing is in", "of each drawing the best file that is in stays",
                   setting="groups=best")  # fmt: skip
    for origin, policy in query.provenance.items():
        if policy.cap is not None:
            share = f"at most {float(policy.cap):.4g} of the set"
            yield Step(f"cap.{origin}", "drop", f"origin = '{origin}' beyond {share}", "chosen by the hash of the picture",
                       setting=f"provenance.{origin}.cap", origin=origin)  # fmt: skip
    if query.slice is not None:
        part, of = query.slice
        yield Step("slice", "drop", f"not in part {part} of {of}", "chosen by the hash of the picture", setting="slice")
    yield Step(REST, "keep", "everything else", "no rule speaks of it")


def _of_rule(rule: Rule, sql: str) -> Step:
    approved = str(rule.approved_by) if rule.approved_by else None
    return Step(rule.name, rule.action, rule.condition.text, rule.why, rule.of, "", sql, approved)


def first_fit(every: list[Step]) -> str:
    """SQL for the number of the first step that fits a row; the last where none does. A condition that is null does not fit."""
    cases = [f"when (\n{step.sql}\n) then {number}" for number, step in enumerate(every) if step.sql is not None]
    last = len(every) - 1
    return f"(case {' '.join(cases)} else {last} end)::usmallint" if cases else f"{last}::usmallint"

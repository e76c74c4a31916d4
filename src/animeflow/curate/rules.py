"""One rule of a query: its name, the condition, what happens to pictures that fit, and why. Knows words; runs nothing.

A rule that looks at a score must say who approved it after looking at how many pictures: a score alone takes nothing out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from ..core.errors import ConfigError, did_you_mean
from .expression import SCORE, Expression, parse

KEYS = ("name", "drop", "keep", "why", "approved_by")
APPROVAL = ("who", "date", "looked_at")
SCORED = frozenset({"score"})
"""Columns of the catalogue that are scores themselves."""
_NAME = re.compile(r"[\w.-]{1,64}")


@dataclass(frozen=True)
class Approval:
    """Who stands behind a rule that looks at a score. looked_at: pictures that it decides on and that this person has seen."""

    who: str
    date: str
    looked_at: int

    def __str__(self) -> str:
        return f"{self.who}, {self.date}, who looked at {self.looked_at:,}"


@dataclass(frozen=True)
class Rule:
    """Attributes:
    action: drop or keep.
    of: name and version of the query that has it.
    """

    name: str
    action: str
    condition: Expression
    why: str
    of: str
    approved_by: Approval | None = None

    @property
    def scored(self) -> bool:
        return uses_score(self.condition)

    def as_dict(self) -> dict[str, Any]:
        approval = vars(self.approved_by) if self.approved_by else None
        return {
            "name": self.name,
            self.action: self.condition.text,
            "why": self.why,
            "approved_by": approval,
            "of": self.of,
        }


def uses_score(condition: Expression) -> bool:
    return bool(condition.scores or condition.columns & SCORED)


def read_rules(
    nodes: Iterable[Any], *, of: str, known: Mapping[str, Any], taken: Iterable[str], where: str
) -> list[Rule]:
    """Rules of a config, in order.

    Raises:
        ConfigError: a key, column or function is unknown, a name is taken, or nobody approved a rule by score.
    """
    if isinstance(nodes, Mapping | str) or nodes is None:
        raise ConfigError(
            f"{nodes!r} is no list of rules", where=where, do="write [{name: NAME, drop: SQL, why: TEXT}]"
        )
    rules: list[Rule] = []
    names = set(taken)
    for number, node in enumerate(nodes):
        rule = _rule(node, of=of, known=known, where=f"{where}[{number}]")
        if rule.name in names:
            raise ConfigError(f"two rules are called '{rule.name}'", where=f"{where}[{number}]", do="name each its own")
        names.add(rule.name)
        rules.append(rule)
    return rules


def _rule(node: Any, *, of: str, known: Mapping[str, Any], where: str) -> Rule:
    if not isinstance(node, Mapping):
        raise ConfigError(f"{node!r} is no rule", where=where, do="write {name: NAME, drop: SQL, why: TEXT}")
    check_keys(node, KEYS, where)
    name = node.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(f"a rule is called {name!r}", where=where, do="give it a name of letters, digits, _ . and -")
    where = f"{where} ({name})"
    said = [action for action in ("drop", "keep") if node.get(action) is not None]
    if len(said) != 1:
        raise ConfigError(
            f"rule '{name}' says {' and '.join(said) or 'neither drop nor keep'}", where=where, do="write one of both"
        )
    if not isinstance(node.get("why"), str) or not node["why"].strip():
        raise ConfigError(f"rule '{name}' gives no reason", where=where, do="say with `why` what it is good for")
    condition = parse(node[said[0]], known=known, where=where)
    rule = Rule(name, said[0], condition, node["why"].strip(), of, _approval(node.get("approved_by"), where))
    if rule.scored and rule.approved_by is None:
        raise ConfigError(
            f"rule '{name}' decides by a score, and nobody approved it", where=where,
            why="scores order what people look at; one that takes pictures out by itself takes good ones too",
            do="look at a sample of what it decides on, then add approved_by: {who: NAME, date: YYYY-MM-DD, looked_at: NUMBER}",
        )  # fmt: skip
    return rule


def _approval(node: Any, where: str) -> Approval | None:
    if node is None:
        return None
    do = "write approved_by: {who: NAME, date: YYYY-MM-DD, looked_at: NUMBER}"
    if not isinstance(node, Mapping):
        raise ConfigError(f"{node!r} is no approval", where=where, do=do)
    check_keys(node, APPROVAL, f"{where}.approved_by")
    who, day, looked = node.get("who"), node.get("date"), node.get("looked_at")
    if not isinstance(who, str) or not who.strip():
        raise ConfigError("the approval names nobody", where=where, do=do)
    try:
        day = date.fromisoformat(str(day)).isoformat()
    except ValueError as error:
        raise ConfigError(f"the approval has no date: {day!r}", where=where, do=do) from error
    if not isinstance(looked, int) or isinstance(looked, bool) or looked < 1:
        raise ConfigError(f"the approval looked at {looked!r} pictures", where=where, do=do)
    return Approval(who.strip(), day, looked)


def check_keys(node: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    """Raises ConfigError for a key that is not known."""
    known = list(known)
    for key in node:
        if key not in known:
            raise ConfigError(
                f"unknown setting '{key}'{did_you_mean(str(key), known)}",
                where=where,
                do=f"known here: {', '.join(known)}",
            )


__all__ = ["SCORE", "Approval", "Rule", "check_keys", "read_rules", "uses_score"]

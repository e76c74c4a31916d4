"""A query: which pictures of a catalogue a set has. Named, versioned, made of others; all that it does is in its words.

A picture is decided by the first step that fits: what people decided, the policy for its origin, the rules in order, copies of the
same drawing, caps, the slice. What no step decides is in. Knows configs; runs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from ..catalogue.post import ORIGINS, SCHEMA
from ..core.errors import ConfigError, did_you_mean
from ..core.files import address
from ..text.tags import CATEGORIES
from .rules import Rule, check_keys, read_rules
from .slices import read_slice

KEYS = (  # `require` is read by `statement`: it takes nothing out
    "name",
    "version",
    "include",
    "rules",
    "groups",
    "decisions",
    "provenance",
    "splits",
    "slice",
    "require",
)
GROUPS = ("keep", "best")
DECISIONS = ("ignored", "rejected", "reviewed")
SPLITS = ("pictures", "groups")
"""Each from lenient to strict: a query is as strict as the strictest that it includes."""
SYNTHETIC = ("ai", "ai_assisted")
"""Origins that the `open` query forbids."""

EXTRA = {
    "review": "keep, reject, flag or none",
    "review_reason": "the reviewers' words",
    "reviewers": "names",
    "reviewed_at": "time of the last word",
    "disputed": "whether people differ",
    "group_kind": "duplicate, variant, or null for a picture alone",
    "group_best": "uid of the best file of the drawing",
    "variant_best": "uid of the best picture of its set of versions",
}
COLUMNS: dict[str, tuple[str, ...]] = {
    **{name: CATEGORIES if name == "tags" else () for name in SCHEMA.names if name != "digest"},
    **dict.fromkeys(EXTRA, ()),
}
"""What a condition can look at, and the fields of what has some."""


@dataclass(frozen=True)
class Policy:
    """What is done with pictures of one origin. weight: how often one comes, beside those of others. cap: share of the set."""

    forbidden: bool = False
    weight: Fraction = Fraction(1)
    cap: Fraction | None = None

    def stricter(self, other: Policy) -> Policy:
        caps = [each for each in (self.cap, other.cap) if each is not None]
        return Policy(self.forbidden or other.forbidden, min(self.weight, other.weight), min(caps, default=None))

    def as_word(self) -> Any:
        if self.forbidden:
            return "forbid"
        said = {"weight": float(self.weight)} if self.weight != 1 else {}
        return said | ({"cap": float(self.cap)} if self.cap is not None else {}) or "allow"


@dataclass(frozen=True)
class Query:
    """Attributes:
    includes: name -> version of the queries that it is made of, in order.
    own: what is done with pictures that runs of ours drew: those are refused when they are catalogued.
    """

    name: str = "open"
    version: int = 1
    rules: tuple[Rule, ...] = ()
    groups: str = "keep"
    decisions: str = "rejected"
    provenance: Mapping[str, Policy] = field(default_factory=lambda: dict.fromkeys(ORIGINS, Policy()))
    own: str = "forbid"
    splits: str = "groups"
    slice: tuple[int, int] | None = None
    includes: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def from_config(
        cls, node: Mapping[str, Any], *, where: str = "curate", load: Callable[[str], Mapping[str, Any]] | None = None
    ) -> Query:
        """Read a node of a config, and by `load` the queries that it includes.

        Raises:
            ConfigError: something is unknown, impossible, or decides by a score that nobody approved.
        """
        return _read(node, where, load, ())

    def resolved(self) -> dict[str, Any]:
        """All that decides, as JSON; names of queries are in it, places are not."""
        return {
            "name": self.name,
            "version": self.version,
            "includes": dict(self.includes),
            "decisions": self.decisions,
            "provenance": {origin: policy.as_word() for origin, policy in self.provenance.items()} | {"own": self.own},
            "rules": [rule.as_dict() for rule in self.rules],
            "groups": self.groups,
            "slice": None if self.slice is None else f"{self.slice[0]}/{self.slice[1]}",
            "splits": self.splits,
        }

    @property
    def hash(self) -> str:
        """32 hex digits of all that decides: equal for queries that say the same in the same order."""
        return address(**self.resolved())

    @property
    def is_open(self) -> bool:
        """Whether it asks for nothing but that no picture is synthetic: the plain `open` query."""
        usual = {origin: Policy(forbidden=origin in SYNTHETIC) for origin in ORIGINS}
        return self.asks_for_origins_alone and (self.provenance, self.own) == (usual, "forbid")

    @property
    def asks_for_origins_alone(self) -> bool:
        """Whether nothing but its origin can take a picture out of a catalogue in which nobody decided yet."""
        caps = any(policy.cap is not None for policy in self.provenance.values())
        asks = (self.rules, self.groups, self.decisions, self.slice, caps)
        return asks == ((), "keep", "rejected", None, False)

    def weights(self) -> dict[str, float]:
        """Origin -> how often a picture of it comes beside others. The loader's part; no picture is left out by it."""
        return {origin: float(policy.weight) for origin, policy in self.provenance.items() if policy.weight != 1}

    def score_names(self) -> set[tuple[str, str]]:
        return {score for rule in self.rules for score in rule.condition.scores}

    def columns(self) -> set[str]:
        """What its rules look at."""
        return {column for rule in self.rules for column in rule.condition.columns}


def _read(node: Any, where: str, load: Callable[[str], Mapping[str, Any]] | None, within: tuple[str, ...]) -> Query:
    if not isinstance(node, Mapping):
        raise ConfigError(f"{node!r} is no query", where=where, do=f"write a map of {', '.join(KEYS)}")
    check_keys(node, KEYS, where)
    name, version = node.get("name"), node.get("version", 1)
    if not isinstance(name, str) or not name.strip():
        raise ConfigError("the query has no name", where=where, do="name it: it is recorded in what is made with it")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ConfigError(f"version {version!r} of the query is no whole number from 1", where=f"{where}.version")
    parts = list(_included(node.get("include") or (), where, load, within))
    theirs = _joined(parts, where)
    own_rules = read_rules(
        node.get("rules", ()), of=f"{name} {version}", known=COLUMNS,
        taken=[rule.name for rule in theirs], where=f"{where}.rules",
    )  # fmt: skip
    provenance, own = _provenance(node.get("provenance"), f"{where}.provenance")
    for part in parts:
        provenance = {origin: policy.stricter(part.provenance[origin]) for origin, policy in provenance.items()}
    versions = {each: number for part in parts for each, number in {**part.includes, part.name: part.version}.items()}
    return Query(
        name, version, (*theirs, *own_rules),
        groups=_strictest(GROUPS, node.get("groups", "keep"), [part.groups for part in parts], f"{where}.groups"),
        decisions=_strictest(
            DECISIONS, node.get("decisions", "rejected"), [part.decisions for part in parts], f"{where}.decisions"
        ),
        provenance=provenance, own="forbid" if "forbid" in (own, *(part.own for part in parts)) else own,
        splits=_strictest(SPLITS, node.get("splits", "groups"), [part.splits for part in parts], f"{where}.splits"),
        slice=None if node.get("slice") is None else read_slice(node["slice"]), includes=versions,
    )  # fmt: skip


def _included(
    names: Any, where: str, load: Callable[[str], Mapping[str, Any]] | None, within: tuple[str, ...]
) -> Iterator[Query]:
    if isinstance(names, str | Mapping):
        raise ConfigError(f"{names!r} is no list of queries", where=f"{where}.include", do="write [NAME_OR_FILE]")
    for name in map(str, names):
        if name in within:
            raise ConfigError(
                f"'{name}' includes itself", where=f"{where}.include", do=f"break {' > '.join(within)} up"
            )
        if load is None:
            raise ConfigError(f"'{name}' cannot be looked up here", where=f"{where}.include")
        part = _read(load(name), f"{where}.include ({name})", load, (*within, name))
        if part.slice is not None:
            raise ConfigError(
                f"'{name}' has a slice", where=f"{where}.include", why="a part of a part is no part of the set",
                do="give the slice in the query that includes it",
            )  # fmt: skip
        yield part


def _joined(parts: list[Query], where: str) -> list[Rule]:
    """Rules of all parts in order, once each: two parts may include the same third."""
    rules: dict[str, Rule] = {}
    for rule in (rule for part in parts for rule in part.rules):
        if rules.setdefault(rule.name, rule) != rule:
            raise ConfigError(
                f"'{rule.of}' and '{rules[rule.name].of}' have different rules '{rule.name}'",
                where=f"{where}.include", do="give one of them another name",
            )  # fmt: skip
    return list(rules.values())


def _strictest(scale: tuple[str, ...], said: Any, others: list[str], where: str) -> str:
    if said not in scale:
        raise ConfigError(
            f"'{said}' is unknown{did_you_mean(str(said), scale)}", where=where, do=f"choose one of: {', '.join(scale)}"
        )
    return max([said, *others], key=scale.index)


def _provenance(node: Any, where: str) -> tuple[dict[str, Policy], str]:
    node = node if node is not None else {}
    if not isinstance(node, Mapping):
        raise ConfigError(f"{node!r} is no policy", where=where, do="write {ai: forbid, unknown: allow}")
    check_keys(node, (*ORIGINS, "own"), where)
    own = node.get("own", "forbid")
    if own not in ("forbid", "allow"):
        raise ConfigError(f"{own!r} is unknown", where=f"{where}.own", do="choose forbid or allow")
    return {origin: _policy(node.get(origin, "allow"), f"{where}.{origin}") for origin in ORIGINS}, own


def _policy(said: Any, where: str) -> Policy:
    if said in ("allow", "forbid"):
        return Policy(forbidden=said == "forbid")
    if not isinstance(said, Mapping) or not said:
        words = ("allow", "forbid")
        raise ConfigError(
            f"{said!r} is no policy{did_you_mean(str(said), words)}", where=where,
            do="choose allow, forbid, {weight: 0.25} or {cap: 0.1}",
        )  # fmt: skip
    check_keys(said, ("weight", "cap"), where)
    values = {}
    for name, most in (("weight", None), ("cap", 1)):
        value = said.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0 or (most and value >= most):
            range_ = "more than 0" if most is None else "between 0 and 1"
            raise ConfigError(f"{name} {value!r} is not {range_}", where=where, do="write forbid to leave them out")
        values[name] = Fraction(str(value))  # 0.1 is a tenth, which no float is
    return Policy(weight=values.get("weight", Fraction(1)), cap=values.get("cap"))

"""`data.loader.exposure` as values: what a person may ask for of how often pictures come. Knows words; knows no picture."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..core.errors import ConfigError, did_you_mean
from .balance import Balance
from .conditions import check

WHERE = "data.loader.exposure"
OTHERS = "others"
"""The component of the pictures that fit no other."""


@dataclass(frozen=True)
class Component:
    """A named part of the mixture: its share of an epoch beside those of the others, and which pictures are of it."""

    share: float
    where: Mapping[str, Any]


@dataclass(frozen=True)
class Weight:
    """Pictures that count `by` times as much as they would. `required`: one at least must be there."""

    where: Mapping[str, Any]
    by: float
    required: bool = True


@dataclass(frozen=True)
class Settings:
    """`cap` is the smallest that was said, of visits of a picture in an epoch; infinite where nobody said any."""

    balance: Balance | None = None
    mixture: Mapping[str, Component] = field(default_factory=dict)
    weights: tuple[Weight, ...] = ()
    loss: tuple[Weight, ...] = ()
    cap: float = math.inf

    @property
    def says_something(self) -> bool:
        return bool(self.balance or self.mixture or self.weights or self.loss or self.cap < math.inf)

    def conditions(self) -> list[Component | Weight]:
        """All that has a `where`."""
        return [*(part for part in self.mixture.values() if part.where), *self.weights, *self.loss]


def settings_of(node: Mapping[str, Any] | None, *, origins: Mapping[str, float] | None = None) -> Settings:
    """From the config. `origins` weighs pictures by their origin (`curate.provenance`), as `weights` would.

    Raises:
        ConfigError: a key is unknown or a value impossible.
    """
    _keys(node or {}, ("balance", "mixture", "weights", "loss", "cap"), WHERE)
    node = node or {}
    balance = _balance(node["balance"]) if node.get("balance") else None
    caps = [_cap(node["cap"], f"{WHERE}.cap")] if node.get("cap") is not None else []
    caps += [_cap(balance.cap, f"{WHERE}.balance.cap")] if balance else []
    by_origin = tuple(Weight({"origin": origin}, by, required=False) for origin, by in (origins or {}).items())
    return Settings(
        balance,
        _mixture(node.get("mixture") or {}),
        _weights(node.get("weights") or [], "exposure", f"{WHERE}.weights") + by_origin,
        _weights(node.get("loss") or [], "weight", f"{WHERE}.loss"),
        min(caps, default=math.inf),
    )


def _balance(node: Any) -> Balance:
    at = f"{WHERE}.balance"
    _keys(node, tuple(inspect.signature(Balance).parameters), at)
    for key in ("by", "alpha"):
        if key not in node:
            raise ConfigError(f"the balance has no '{key}'", where=at, do="for example {by: character, alpha: 0.5}")
    by = node["by"] if isinstance(node["by"], list | tuple) else [node["by"]]
    if not by or not all(isinstance(word, str) and word for word in by):
        raise ConfigError(f"{node['by']!r} is nothing to count by", where=f"{at}.by", do="for example character")
    numbers = {key: _number(node[key], f"{at}.{key}") for key in ("alpha", "cap", "floor") if key in node}
    return Balance(by=tuple(by), **numbers)


def _mixture(node: Any) -> dict[str, Component]:
    at, parts = f"{WHERE}.mixture", {}
    if not isinstance(node, Mapping):
        raise ConfigError(f"{node!r} names no components", where=at, do="for example {anime: {share: 5, where: {...}}}")
    for name, part in node.items():
        _keys(part, ("share", "where"), f"{at}.{name}")
        if "share" not in part or ("where" in part) == (name == OTHERS):
            wanted = "{share: 1}, the rest being its pictures" if name == OTHERS else "{share: 1, where: {...}}"
            raise ConfigError(f"'{name}' says {dict(part)}", where=f"{at}.{name}", do=f"write {name}: {wanted}")
        if name != OTHERS:
            check(part["where"], f"{at}.{name}.where")
        parts[str(name)] = Component(_number(part["share"], f"{at}.{name}.share"), part.get("where", {}))
    if parts and not any(part.share for part in parts.values()):
        raise ConfigError("all shares are 0", where=at, do="give one component a share")
    return parts


def _weights(node: Any, key: str, at: str) -> tuple[Weight, ...]:
    if not isinstance(node, list | tuple):
        raise ConfigError(f"{node!r} is no list", where=at, do=f"for example [{{where: {{origin: ai}}, {key}: 0.25}}]")
    found = []
    for number, part in enumerate(node):
        _keys(part, ("where", key), f"{at}.{number}")
        if set(part) != {"where", key}:
            raise ConfigError(f"{dict(part)} lacks one of where, {key}", where=f"{at}.{number}")
        check(part["where"], f"{at}.{number}.where")
        found.append(Weight(part["where"], _number(part[key], f"{at}.{number}.{key}")))
    return tuple(found)


def _keys(node: Any, known: Iterable[str], at: str) -> None:
    known = tuple(known)
    if not isinstance(node, Mapping):
        raise ConfigError(f"{node!r} is no map of settings", where=at, do=f"its keys are {', '.join(known)}")
    for key in node:
        if key not in known:
            raise ConfigError(
                f"unknown setting '{key}'{did_you_mean(str(key), known)}", where=at, do=f"choose of: {', '.join(known)}"
            )


def _number(value: Any, at: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 2**20:
        raise ConfigError(f"{value!r} is no number of 0 or above", where=at)
    return float(value)


def _cap(value: Any, at: str) -> float:
    if _number(value, at) < 1 or value != int(value):
        raise ConfigError(
            f"a cap of {value} is no whole number of 1 or above", where=at,
            why="visits in an epoch are whole: a picture that may come 2.5 times comes 3 times in some",
            do=f"use {max(1, round(value))}",
        )  # fmt: skip
    return float(value)

"""How often each picture comes in an epoch, from what is known of it and what a person asked for. Knows columns of facts; knows no
order of data.

    exposure = repeats x weights x balance, then a factor for every component of the mixture, and never above a cap
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ..core.errors import ConfigError
from .balance import factors
from .conditions import columns_of, fits, nearest
from .exposure_settings import OTHERS, WHERE, Component, Settings, Weight
from .turns import ONCE, Turns

MOST = 2**14
"""Visits of a picture in an epoch: in 64 bits `Turns` counts those of 2^17 epochs."""


@dataclass(frozen=True)
class Line:
    """One component in numbers: shares of the images of an epoch, and the fewest and most visits of a picture in any epoch."""

    name: str
    pictures: int
    asked: float
    realised: float
    least: int
    most: int


@dataclass(frozen=True)
class Exposures:
    """What a training set is shown like.

    Attributes:
        uids: ascending.
        times: how often each comes in an epoch, expected, float64.
        names: of the components, in order; empty without a mixture.
        component: number of the component of each.
        loss: how much the loss of each counts, float32; None where all count alike.
    """

    uids: np.ndarray
    times: np.ndarray
    names: tuple[str, ...]
    component: np.ndarray
    loss: np.ndarray | None

    def turns(self, seed: int) -> Turns:
        """For a plan of this seed."""
        return Turns.of(self.uids, self.times, self.component, seed=seed)

    def rows(self, uids: Sequence[int]) -> np.ndarray:
        """Where these pictures stand in the columns."""
        return np.searchsorted(self.uids, np.asarray(uids, dtype=np.int64))

    def named(self, uids: np.ndarray) -> list[str | None]:
        """The component that each of any pictures is of, None for one that is not among these."""
        rows = np.minimum(np.searchsorted(self.uids, uids), len(self.uids) - 1)
        number = np.where(self.uids[rows] == uids, self.component[rows], len(self.names))
        return np.array([*self.names, None], dtype=object)[number].tolist()

    def lines(self, seed: int, *, epoch: int = 0) -> list[Line]:
        """What a plan of this seed makes of it in one epoch, component by component."""
        turns, names = self.turns(seed), self.names or ("all",)
        visits, lines = turns.visits(epoch), []
        for number, name in enumerate(names):
            mine = self.component == number if self.names else np.ones(len(self.uids), dtype=bool)
            if not mine.any():
                continue
            steps = turns.steps[mine]
            shares = (float(self.times[mine].sum() / self.times.sum()), visits[mine].sum() / max(visits.sum(), 1))
            bounds = (int(steps.min()) // ONCE, -(-int(steps.max()) // ONCE))
            lines.append(Line(name, int(mine.sum()), shares[0], float(shares[1]), *bounds))
        return lines


def columns(settings: Settings) -> set[str]:
    """The facts that the settings ask for."""
    found = set().union(*(columns_of(part.where) for part in settings.conditions())) if settings.conditions() else set()
    return found | (settings.balance.columns() if settings.balance else set())


def exposures(table: pa.Table, settings: Settings, *, repeats: Mapping[int, int] | None = None) -> Exposures:
    """Of the pictures of a table of facts (`facts.SCHEMA`, as far as `columns` says), in any order.

    Args:
        repeats: uid -> how often it comes before all else; 1 for those left out.
    Raises:
        ConfigError: a condition fits no picture, nothing is left of a component, or a share and the cap contradict each other.
    """
    table = table.sort_by("uid")
    uids = table["uid"].to_numpy()
    times = np.array([(repeats or {}).get(uid, 1) for uid in uids.tolist()]) if repeats else np.ones(len(uids))
    times = times * _product(table, settings.weights, f"{WHERE}.weights")
    if settings.balance:
        times *= factors(table, settings.balance, f"{WHERE}.balance")
    names, component = _components(table, settings.mixture)
    cap = settings.cap
    times = _mixed(times, names, component, settings.mixture, cap) if names else np.minimum(times, cap)
    if times.max(initial=0) > MOST:
        raise ConfigError(
            f"a picture would come {times.max():,.0f} times in an epoch", where=WHERE,
            do=f"ask for smaller weights, or set a cap: {MOST:,} is the most that the order of data counts",
        )  # fmt: skip
    if not times.any():
        raise ConfigError("no picture is left to show: every one has a weight of 0", where=WHERE)
    loss = _product(table, settings.loss, f"{WHERE}.loss").astype(np.float32) if settings.loss else None
    return Exposures(uids, times, names, component, loss)


def _product(table: pa.Table, weights: Sequence[Weight], at: str) -> np.ndarray:
    """Of the weights of all conditions that fit each picture, so that their order means nothing."""
    product = np.ones(len(table))
    for number, weight in enumerate(weights):
        fitting = fits(table, weight.where, f"{at}.{number}")
        if weight.required and not fitting.any():
            raise _no_picture(table, weight.where, f"{at}.{number}")
        product[fitting] *= weight.by
    return product


def _components(table: pa.Table, mixture: Mapping[str, Component]) -> tuple[tuple[str, ...], np.ndarray]:
    """Names, `others` last where there are any, and the first one that fits each picture."""
    number = np.full(len(table), len(mixture), dtype=np.int64)
    if not mixture:
        return (), np.zeros(len(table), dtype=np.int64)
    named = [name for name in mixture if name != OTHERS]
    for i, name in enumerate(named):
        at = f"{WHERE}.mixture.{name}"
        fitting = fits(table, mixture[name].where, at)
        free = number == len(mixture)
        if not (fitting & free).any():
            if not fitting.any():
                raise _no_picture(table, mixture[name].where, at)
            raise ConfigError(
                f"all {fitting.sum():,} pictures of the component '{name}' are in components before it", where=at,
                why="a picture is in the first one that fits it",
                do="name it before them, or put what it has into their `not`",
            )  # fmt: skip
        number[fitting & free] = i
    number[number == len(mixture)] = len(named)
    if OTHERS in mixture and not (number == len(named)).any():
        raise ConfigError("every picture is in a component, none is left for 'others'", where=f"{WHERE}.mixture.others")
    return (*named, *([OTHERS] if (number == len(named)).any() else [])), number


def _mixed(
    times: np.ndarray, names: Sequence[str], component: np.ndarray, mixture: Mapping[str, Component], cap: float
) -> np.ndarray:
    """The shares of an epoch that is as long as it was. Others that nobody gave a share keep what they have."""
    held = np.bincount(component, weights=times, minlength=len(names))
    shared = [i for i, name in enumerate(names) if name in mixture]
    whole = sum(mixture[names[i]].share for i in shared)
    length, mixed = float(held[shared].sum()), np.minimum(times, cap)
    for i in shared:
        name, mine = names[i], component == i
        due = length * mixture[name].share / whole
        at = f"{WHERE}.mixture.{name}"
        if due and not held[i]:
            raise ConfigError(f"every picture of the component '{name}' has a weight of 0", where=at)
        most = cap * float(np.count_nonzero(times[mine])) if np.isfinite(cap) else np.inf
        if due > most * (1 + 1e-12):
            raise ConfigError(
                f"{name} should be {due / length:.1%} of what has a share, and is {most / length:.1%} at most",
                where=at, why=f"no picture comes more than {cap:g} times in an epoch",
                do="ask for a smaller share, raise the cap, or find more such pictures",
            )  # fmt: skip
        mixed[mine] = _filled(times[mine], due, cap)
    return mixed


def _filled(times: np.ndarray, due: float, cap: float) -> np.ndarray:
    """min(cap, s times) with the s that makes them add up to what is due: what is cut off is given to those below the cap."""
    if not due:
        return np.zeros(len(times))
    capped = np.zeros(len(times), dtype=bool)
    while True:
        free = float(times[~capped].sum())
        scale = (due - cap * capped.sum()) / free if capped.any() and free else due / free if free else 0.0
        above = ~capped & (times * scale > cap)
        if not above.any():
            return np.where(capped, cap, times * scale)
        capped |= above


def _no_picture(table: pa.Table, where: Mapping[str, object], at: str) -> ConfigError:
    return ConfigError(
        f"no picture to train on fits {_told(where)}{nearest(table, where)}", where=at,
        why="what was meant would not happen", do="check the words, or take the condition out",
    )  # fmt: skip


def _told(where: Mapping[str, object]) -> str:
    return "{" + ", ".join(f"{name}: {value}" for name, value in where.items()) + "}"

"""Scales, ticks and lines of a chart: from values to places on paper. Knows numbers and SVG; knows no data and no page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .html import Markup, element

Point = tuple[float, float | None]


@dataclass(frozen=True)
class Scale:
    """Affine map of [low, high] to [start, end]; on `log` it maps their logarithms. `start > end` points upwards on paper."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __post_init__(self) -> None:
        if not self.high > self.low or (self.log and self.low <= 0):
            raise ValueError(f"no scale from {self.low} to {self.high}{' in logarithms' if self.log else ''}")

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return self.start + (value - low) / (high - low) * (self.end - self.start)


def nice_step(span: float, count: int) -> float:
    """The smallest of 1, 2, 2.5, 5 x 10^k that cuts `span` into at most `count` parts."""
    raw = span / max(1, count)
    power = 10.0 ** math.floor(math.log10(raw))
    for factor in (1, 2, 2.5, 5, 10):
        if factor * power >= raw * (1 - 1e-9):
            return factor * power
    raise AssertionError("10 x the power is never below the raw step")


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round values inside [low, high]: multiples of `nice_step`."""
    if high <= low:
        return [low]
    step = nice_step(high - low, count)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten inside [low, high]; 1, 2 and 5 of every power when there are fewer than three of them."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    tens = [10.0**k for k in powers if low <= 10.0**k <= high]
    if len(tens) >= 3:
        return tens
    return [f * 10.0**k for k in powers for f in (1, 2, 5) if low <= f * 10.0**k <= high]


def limits(values: Sequence[float], *, zero: bool = False, pad: float = 0.06) -> tuple[float, float]:
    """Bounds that hold all values with a little air; from 0 when `zero`. Equal values get a span of their own."""
    low, high = min(values), max(values)
    if zero:
        low, high = min(0.0, low), max(0.0, high)
    span = (high - low) or abs(high) or 1.0
    return (low if zero and low == 0 else low - pad * span), high + pad * span


def path(points: Sequence[Point], x: Scale, y: Scale) -> str:
    """The `d` of a polyline. A missing y (None, NaN, infinite) lifts the pen: gaps in the data stay gaps in the line."""
    parts, pen_down = [], False
    for at, value in points:
        if value is None or not math.isfinite(value):
            pen_down = False
            continue
        parts.append(f"{'L' if pen_down else 'M'}{x(at):.2f} {y(value):.2f}")
        pen_down = True
    return " ".join(parts)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def text(x: float, y: float, words: str, class_: str = "label", *, anchor: str = "start") -> Markup:
    return element("text", words, x=x, y=y, class_=class_, text_anchor=anchor)


def drawing(*content: Markup, width: float, height: float, name: str, title: str, description: str) -> Markup:
    """An accessible `<svg>`: a title and a description that a screen reader speaks instead of the shapes. `name` is a unique id."""
    return element(
        "svg",
        element("title", title, id=f"{name}-title"),
        element("desc", description, id=f"{name}-desc"),
        *content,
        viewBox=f"0 0 {width:g} {height:g}",
        width=width,
        height=height,
        role="img",
        aria_labelledby=f"{name}-title {name}-desc",
    )


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Places near the wanted ones and at least `gap` apart, in the same order: labels of line ends that do not overlap."""
    order = sorted(range(len(wanted)), key=lambda k: wanted[k])
    places = [wanted[k] for k in order]
    for _ in range(50):
        moved = False
        for k in range(1, len(places)):
            short = gap - (places[k] - places[k - 1])
            if short > 1e-6:
                places[k - 1] -= short / 2
                places[k] += short / 2
                moved = True
        if not moved:
            break
    result = [0.0] * len(wanted)
    for rank, k in enumerate(order):
        result[k] = places[rank]
    return result

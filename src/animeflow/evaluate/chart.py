"""The charts of a report: lines, columns, bullets and rows of small panels, as inline SVG. Knows shapes and words;
knows no run.

Colours are CSS classes, so one drawing serves a light and a dark page. Every mark carries its value as a tooltip.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .html import Markup, element
from .numerals import axis, percent, plain
from .svg import Point, Scale, drawing, limits, line, log_ticks, nice_step, path, spread, text, ticks


@dataclass(frozen=True)
class Series:
    """One line. `ink` is a colour class of the page: accent, warm, cool or muted; `faint` draws it behind, thin and unlabelled."""

    name: str
    points: Sequence[Point]
    ink: str = "accent"
    faint: bool = False
    dots: bool = False

    @property
    def known(self) -> list[tuple[float, float]]:
        return [(x, y) for x, y in self.points if y is not None and math.isfinite(y)]


@dataclass(frozen=True)
class Frame:
    """Outer size and margins of a chart in pixels."""

    width: float
    height: float
    left: float = 56
    right: float = 100
    top: float = 30
    bottom: float = 44

    @property
    def x_range(self) -> tuple[float, float]:
        return self.left, self.width - self.right

    @property
    def y_range(self) -> tuple[float, float]:
        return self.height - self.bottom, self.top


def lines(
    series: Sequence[Series],
    *,
    name: str,
    title: str,
    x_label: str,
    y_label: str,
    frame: Frame | None = None,
    zero: bool = False,
    log: bool = False,
    y_limits: tuple[float, float] | None = None,
    as_percent: bool = False,
    marks: Sequence[tuple[float, str]] = (),
) -> Markup:
    """Lines over a shared x axis, each named at its end, and named places on that axis. Raises ValueError when there is no finite
    point."""
    frame = frame or Frame(1040, 320)
    known = [point for each in series for point in each.known]
    if not known:
        raise ValueError(f"chart '{name}' has no values")
    xs, ys = [x for x, _ in known], [y for _, y in known]
    x = Scale(min(xs), max(xs) if max(xs) > min(xs) else min(xs) + 1, *frame.x_range)
    y = _y_scale(ys, frame, zero=zero, log=log, bounds=y_limits)
    say = percent if as_percent else plain
    shapes: list[Markup] = [
        *_grid(y, frame, as_percent=as_percent),
        *_x_axis(x, frame, x_label),
        _y_title(y_label, frame),
        *(shape for at, words in marks for shape in _mark(x(at), words, frame)),
    ]
    for each in sorted(series, key=lambda s: not s.faint):
        kind = "line faint" if each.faint else "line"
        shapes.append(element("path", d=path(each.points, x, y), class_=f"{kind} {each.ink}", fill="none"))
        if each.dots:
            shapes += [_dot(x(a), y(b), each.ink, f"{each.name}: {say(b)} at {plain(a)}") for a, b in each.known]
    labelled = [each for each in series if not each.faint and each.known]
    places = spread([y(each.known[-1][1]) for each in labelled], 26)
    for each, at in zip(labelled, places):
        edge = frame.width - frame.right + 10
        shapes.append(text(edge, at - 2, each.name, f"label ink-{each.ink}"))
        shapes.append(text(edge, at + 12, say(each.known[-1][1]), "value"))
    ends = "; ".join(f"{each.name} from {say(each.known[0][1])} to {say(each.known[-1][1])}" for each in labelled)
    spoken = f"{y_label} over {x_label}, {plain(min(xs))} to {plain(max(xs))}. {ends}."
    spoken += "".join(f" {words}, at {plain(at)}." for at, words in marks)
    return drawing(*shapes, width=frame.width, height=frame.height, name=name, title=title, description=spoken)


def columns(
    bars: Sequence[tuple[str, float]], *, name: str, title: str, x_label: str, y_label: str, frame: Frame | None = None
) -> Markup:
    """Upright bars from zero with their values on top."""
    frame = frame or Frame(512, 280, right=16)
    y = Scale(0.0, (max(value for _, value in bars) or 1.0) * 1.1, *frame.y_range)
    left, right = frame.x_range
    pitch = (right - left) / len(bars)
    marks = [
        *_grid(y, frame),
        _y_title(y_label, frame),
        text((left + right) / 2, frame.height - 6, x_label, "axis-title", anchor="middle"),
    ]
    for k, (label, value) in enumerate(bars):
        middle = left + (k + 0.5) * pitch
        tip = element("title", f"{label}: {plain(value)}")
        marks.append(
            element(
                "rect",
                tip,
                x=middle - 0.34 * pitch,
                y=y(value),
                width=0.68 * pitch,
                height=y(0) - y(value),
                class_="bar accent",
            )
        )
        marks.append(text(middle, y(value) - 6, plain(value), "value", anchor="middle"))
        marks.append(text(middle, y(0) + 16, label, "tick", anchor="middle"))
    spoken = f"{y_label} by {x_label}: " + ", ".join(f"{label} {plain(value)}" for label, value in bars) + "."
    return drawing(*marks, width=frame.width, height=frame.height, name=name, title=title, description=spoken)


@dataclass(frozen=True)
class Bullet:
    """A share with what it must beat. `interval` is what so few questions can tell."""

    label: str
    value: float
    chance: float | None = None
    other: float | None = None
    interval: tuple[float, float] | None = None
    strong: bool = False


def bullets(
    rows: Sequence[Bullet], *, name: str, title: str, width: float = 1040, other_name: str = "without prompt"
) -> Markup:
    """A row per share: bar for the value, whisker for its interval, a tick at chance and a ring at `other`. From 0 to 100 %."""
    pitch, top, left, right = 32.0, 12.0, 184.0, 76.0
    height = top + pitch * len(rows) + 30
    x = Scale(0.0, 1.0, left, width - right)
    foot = top + pitch * len(rows)
    marks = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        marks.append(line(x(share), top - 4, x(share), foot, "grid"))
        marks.append(text(x(share), foot + 18, percent(share, decimals=0), "tick", anchor="middle"))
    for k, row in enumerate(rows):
        middle = top + (k + 0.5) * pitch
        marks += _bullet(row, x, middle, left, width - right, other_name)
    spoken = "; ".join(
        f"{row.label} {percent(row.value)}"
        + (f", chance {percent(row.chance)}" if row.chance is not None else "")
        + (f", {other_name} {percent(row.other)}" if row.other is not None else "")
        for row in rows
    )
    return drawing(*marks, width=width, height=height, name=name, title=title, description=spoken + ".")


def _bullet(row: Bullet, x: Scale, middle: float, left: float, right: float, other_name: str) -> Iterator[Markup]:
    thick = 18.0 if row.strong else 14.0
    yield text(left - 14, middle + 4.5, row.label, "label strong" if row.strong else "label", anchor="end")
    yield element("rect", x=left, y=middle - thick / 2, width=right - left, height=thick, class_="track")
    tip = element("title", f"{row.label}: {percent(row.value)}")
    yield element(
        "rect", tip, x=left, y=middle - thick / 2, width=x(row.value) - left, height=thick, class_="bar accent"
    )
    if row.interval:
        low, high = row.interval
        tip = element("title", f"95 % interval {percent(low)} to {percent(high)}")
        yield element(
            "g",
            tip,
            line(x(low), middle, x(high), middle, "whisker"),
            *(line(x(v), middle - 4, x(v), middle + 4, "whisker") for v in (low, high)),
        )
    if row.chance is not None:
        tip = element("title", f"chance {percent(row.chance)}")
        yield element("line", tip, x1=x(row.chance), x2=x(row.chance), y1=middle - 11, y2=middle + 11, class_="chance")
    if row.other is not None:
        tip = element("title", f"{other_name} {percent(row.other)}")
        yield element("circle", tip, cx=x(row.other), cy=middle, r=5, class_="other")
    yield text(right + 12, middle + 4.5, percent(row.value), "value strong" if row.strong else "value")


def panels(
    series: Sequence[Series],
    *,
    name: str,
    title: str,
    x_label: str,
    num_columns: int = 5,
    width: float = 1040,
    rules: Sequence[float | None] = (),
    y_limits: tuple[float, float] | None = None,
    as_percent: bool = False,
) -> Markup:
    """Small panels with the same axes, one line each, so that shapes compare. `rules[k]` is a reference level of panel k."""
    known = [point for each in series for point in each.known]
    if not known:
        raise ValueError(f"chart '{name}' has no values")
    gap, pitch_y, left, foot = 18.0, 112.0, 44.0, 34.0
    num_rows = math.ceil(len(series) / num_columns)
    panel = (width - left - 6 - gap * (num_columns - 1)) / num_columns
    low, high = y_limits or limits([y for _, y in known], zero=True)
    xs = [x for x, _ in known]
    marks: list[Markup] = []
    for k, each in enumerate(series):
        row, column = divmod(k, num_columns)
        x0, y0 = left + column * (panel + gap), row * pitch_y + 26
        x = Scale(min(xs), max(xs) if max(xs) > min(xs) else min(xs) + 1, x0, x0 + panel)
        y = Scale(low, high, y0 + pitch_y - 44, y0)
        marks += _panel(each, x, y, rules[k] if k < len(rules) else None, first=column == 0, as_percent=as_percent)
    base = num_rows * pitch_y - 2
    say = percent if as_percent else plain
    marks.append(text(left, base + 18, f"{plain(min(xs))} to {plain(max(xs))} {x_label} in every panel", "axis-title"))
    ends = "; ".join(
        f"{each.name} from {say(each.known[0][1])} to {say(each.known[-1][1])}" for each in series if each.known
    )
    return drawing(
        *marks,
        width=width,
        height=num_rows * pitch_y + foot,
        name=name,
        title=title,
        description=f"Over {x_label}: {ends}.",
    )


def _panel(each: Series, x: Scale, y: Scale, rule: float | None, *, first: bool, as_percent: bool) -> Iterator[Markup]:
    say = percent if as_percent else plain
    yield text(x.start, y.end - 8, each.name, "label small")
    for level in (y.low, y.high) if as_percent else ticks(y.low, y.high, 2):
        yield line(x.start, y(level), x.end, y(level), "grid")
        if first:
            yield text(
                x.start - 8, y(level) + 4, f"{100 * level:.0f} %" if as_percent else plain(level), "tick", anchor="end"
            )
    if rule is not None:
        yield element(
            "line",
            element("title", f"chance {say(rule)}"),
            x1=x.start,
            x2=x.end,
            y1=y(rule),
            y2=y(rule),
            class_="chance thin",
        )
    yield element("path", d=path(each.points, x, y), class_=f"line {each.ink}", fill="none")
    if each.known:
        at, value = each.known[-1]
        yield _dot(x(at), y(value), each.ink, f"{each.name}: {say(value)} at {plain(at)}")
        yield text(x.end, y.end - 8, say(value), "value small", anchor="end")


def _y_scale(ys: Sequence[float], frame: Frame, *, zero: bool, log: bool, bounds: tuple[float, float] | None) -> Scale:
    if log and min(ys) > 0:
        low, high = min(ys), max(ys)
        return Scale(low / 1.15, high * 1.15, *frame.y_range, log=True)
    low, high = bounds or limits(ys, zero=zero)
    return Scale(low, high, *frame.y_range)


def _grid(y: Scale, frame: Frame, *, as_percent: bool = False) -> Iterator[Markup]:
    levels = log_ticks(y.low, y.high) if y.log else ticks(y.low, y.high, 5)
    step = nice_step(y.high - y.low, 5)
    left, right = frame.x_range
    for level in levels:
        label = f"{100 * level:.0f} %" if as_percent else f"{level:g}" if y.log else axis(level, step)
        yield line(left, y(level), right, y(level), "grid base" if level == 0 else "grid")
        yield text(left - 10, y(level) + 4, label, "tick", anchor="end")


def _x_axis(x: Scale, frame: Frame, label: str) -> Iterator[Markup]:
    foot = frame.height - frame.bottom
    step = nice_step(x.high - x.low, 6)
    for at in ticks(x.low, x.high, 6):
        yield line(x(at), foot, x(at), foot + 4, "grid base")
        yield text(x(at), foot + 18, axis(at, step), "tick", anchor="middle")
    yield text(sum(frame.x_range) / 2, frame.height - 6, label, "axis-title", anchor="middle")


def _mark(at: float, words: str, frame: Frame) -> Iterator[Markup]:
    """An upright dashed line with its name on top, turned inwards where it is near the right end."""
    inwards = at > (frame.x_range[0] + frame.x_range[1]) / 2
    yield line(at, frame.top, at, frame.height - frame.bottom, "chance")
    yield text(
        at - 6 if inwards else at + 6, frame.top + 10, words, "value small", anchor="end" if inwards else "start"
    )


def _y_title(label: str, frame: Frame) -> Markup:
    """Above the axis and level: a turned head reads no faster."""
    return text(0, 14, label, "axis-title")


def _dot(x: float, y: float, ink: str, tip: str) -> Markup:
    return element("circle", element("title", tip), cx=x, cy=y, r=3.2, class_=f"dot {ink}")

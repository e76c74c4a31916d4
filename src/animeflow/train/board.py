"""What a person is shown of a run: facts in, a drawing or a line of words out. Knows rich and numbers; knows no terminal."""

from __future__ import annotations

import itertools
import math
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from rich.console import RenderableType
from rich.panel import Panel as Frame
from rich.text import Text

BINS = 10
EVENTS = 3
HEIGHT = 1 + BINS + EVENTS + 1 + 2  # progress, facts beside bins, events, keys, border
WIDE = 92  # columns below which the bins do not fit beside the facts
BIN_WIDTH = 34
BY_T = 3  # the row of `_rows` that says what the bins say
BLOCK_ROWS = ("", "loss by t")
BLOCKS = "▁▂▃▄▅▆▇█"
KEYS = "s sample now   c checkpoint   p pause   q save and stop"


@dataclass
class Facts:
    """All that is known while a run goes on.

    Args:
        title: of the run.
        total, images: length of the run and how far it is.
        seconds: that the run took before this process.
        price, devices: dollars per device and hour, from and to, and how many devices there are.
    """

    title: str
    total: int
    images: int = 0
    seconds: float = 0.0
    price: tuple[float, float] | None = None
    devices: int = 1
    state: str = "training"
    keys: bool = False
    started: float = field(default_factory=time.monotonic)
    values: dict[str, float] = field(default_factory=dict)
    losses: deque[float] = field(default_factory=lambda: deque(maxlen=400))
    events: deque[str] = field(default_factory=lambda: deque(maxlen=EVENTS))
    due: dict[str, int] = field(default_factory=dict)
    _places: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=20))

    def take(self, values: Mapping[str, float]) -> None:
        """The numbers of a log line."""
        self.values |= {name: float(value) for name, value in values.items()}
        if "train/loss" not in values:  # of a validation, say
            return
        loss = self.values.get("train/loss_ema", math.nan)
        self.losses.append(loss if math.isfinite(loss) else self.values["train/loss"])
        self._places.append((time.monotonic(), self.images))

    @property
    def spent(self) -> float:
        """Seconds of the whole run so far."""
        return self.seconds + time.monotonic() - self.started

    @property
    def left(self) -> float | None:
        """Seconds to go. The rate of the last log lines by the clock on the wall, so samples and checkpoints are in it."""
        rate = self.values.get("time/images_per_second", math.nan)
        if len(self._places) > 1:
            (before, first), (now, last) = self._places[0], self._places[-1]
            rate = (last - first) / (now - before) if last > first and now > before else rate
        return max(0, self.total - self.images) / rate if rate > 0 else None

    def money(self, seconds: float) -> str | None:
        if self.price is None:
            return None
        low, high = (seconds / 3600 * self.devices * price for price in self.price)
        digits = 2 if high < 10 else 0
        return f"${low:,.{digits}f}" + (f"-{high:,.{digits}f}" if high > low else "")

    def bins(self) -> list[float]:
        """Loss of every tenth of t; NaN where no image fell into it. Empty where nothing was logged."""
        found = [self.values.get(f"train/loss_bin_{i}", math.nan) for i in range(BINS)]
        return found if any(math.isfinite(value) for value in found) else []


def duration(seconds: float) -> str:
    """Two units, the larger ones: "3 h 12 min"."""
    whole = round(seconds)
    for size, unit, smaller, name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // smaller} {name}"
    return f"{whole} s"


def sparkline(values: list[float], *, width: int) -> str:
    """The values as a row of blocks, the last `width` columns; what is no number is an x."""
    if len(values) > width:  # the mean of neighbours, so that all of it is seen
        edges = [i * len(values) // width for i in range(width + 1)]
        values = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return "x" * len(values)
    low, span = min(finite), max(finite) - min(finite)
    top = len(BLOCKS) - 1
    return "".join(
        BLOCKS[round((value - low) / span * top) if span > 0 else 0] if math.isfinite(value) else "x"
        for value in values
    )


def _rows(facts: Facts, width: int) -> list[tuple[str, str]]:
    """Every fact with its name, in the order in which a person asks."""
    v = facts.values

    def some(*parts: tuple[str, str]) -> str:
        return "   ".join(text.format(v[name]) for name, text in parts if name in v) or "-"

    share = {name: 100 * v[name] for name in ("time/data_wait_share", "time/mfu") if name in v}
    v = v | share
    speed = some(("time/images_per_second", "{:,.4g} images/s"), ("time/mfu", "MFU {:.1f} %"))
    waits = some(("time/data_wait_share", "{:.1f} % of the time"))
    loss = some(("train/loss", "{:.4f}"), ("train/loss_ema", "average {:.4f}"), ("val/loss", "held out {:.4f}"))
    step = some(("train/grad_norm", "{:.3g}"), ("optim/lr", "learning rate {:.3g}"))
    left, spent = facts.left, facts.spent
    so_far, to_come = duration(spent) + " so far", "" if left is None else f"   {duration(left)} to go"
    ends = "-" if left is None else time.strftime("%a %d %b %H:%M", time.localtime(time.time() + left))
    money = facts.money(spent)
    paid = "-" if money is None else f"{money} so far" + (f"   {facts.money(left)} to come" if left is not None else "")
    due = "   ".join(f"{name} at {images:,}" for name, images in sorted(facts.due.items(), key=lambda item: item[1]))
    bins = facts.bins()
    known = [value for value in bins if math.isfinite(value)]
    by_t = f"{sparkline(bins, width=BINS).replace('x', ' ')}   {min(known):.3g} to {max(known):.3g}" if known else "-"
    return [
        ("speed", speed),
        ("loss", loss),
        ("", sparkline(list(facts.losses), width=max(8, min(60, width - 11)))),
        ("loss by t", by_t),
        ("gradient", step),
        ("time", so_far + to_come),
        ("money", paid),
        ("data wait", waits),
        ("next", due or "-"),
        ("memory", some(("memory/peak_gib", "{:.1f} GiB at most"))),
        ("ends", ends),
    ]


def draw(facts: Facts, *, width: int, height: int) -> RenderableType:
    """The panel, of one height from first to last. A narrow terminal has the bins as a row of blocks, a low one has fewer facts.
    Lines are laid out here and not by tables of rich, which take several times longer."""
    inner = max(1, width - 4)
    beside = width >= WIDE and height > HEIGHT
    rows = _rows(facts, inner - BIN_WIDTH - 3 if beside else inner)
    if beside:
        rows.pop(BY_T)
    else:
        rows = [row for row in rows if row[0] not in ("ends", "memory")][: max(3, height - EVENTS - 5)]
    right = _bins(facts.bins()) if beside else [("", "", "")] * len(rows)
    text = Text(no_wrap=True, overflow="ellipsis")
    share, bar = _progress(facts, inner)
    text.append(bar[:share], "green").append(bar[share:] + "\n")
    for (name, words), more in zip(rows, right):
        room = max(1, inner - 11 - (BIN_WIDTH + 3 if beside else 0))
        text.append(f"{name:<11}", "dim").append(f"{_cut(words, room):<{room}}", "cyan" if name in BLOCK_ROWS else "")
        text.append(more[0], "dim").append(more[1], "cyan").append(more[2] + "\n")
    for line in [*facts.events, *[""] * EVENTS][:EVENTS]:
        text.append(_cut(line, inner) + "\n")
    text.append(_cut(KEYS if facts.keys else "", inner), "dim")
    title = Text.assemble("animeflow  ", (facts.title, "bold"), f"  {facts.state}")
    return Frame(text, title=title, title_align="left", width=width, height=len(rows) + EVENTS + 4, border_style="dim")


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"


def _progress(facts: Facts, width: int) -> tuple[int, str]:
    """The first line, and how much of it is the part that is done."""
    share = min(1.0, facts.images / facts.total) if facts.total else 1.0
    words = f"  {facts.images:,} of {facts.total:,} images  {100 * share:.1f} %"
    room = max(4, width - len(words))
    full = int(share * room)
    return full, _cut("━" * full + "─" * (room - full) + words, width)


def _bins(values: list[float]) -> list[tuple[str, str, str]]:
    """One bar per tenth of t, as long as its loss is beside the largest."""
    most = max((value for value in values if math.isfinite(value)), default=0.0)
    lines = []
    for i, value in enumerate(values or [math.nan] * BINS):
        known = math.isfinite(value) and most > 0
        bar = "█" * max(1, round(value / most * 16)) if known else ""
        label = f"   t {i / BINS:.1f}-{(i + 1) / BINS:.1f} "
        lines.append((label, f"{bar:<16} ", f"{value:.4f}" if known else "-"))
    return lines


def words(facts: Facts) -> str:
    """The same facts as one plain line, for logs."""
    share = 100 * facts.images / facts.total if facts.total else 100.0
    skipped = ("", "ends", "loss by t")
    parts = [f"{name} {text}".strip() for name, text in _rows(facts, 20) if name not in skipped and text != "-"]
    bins = facts.bins()
    if bins:
        parts.append("loss by t " + " ".join("-" if math.isnan(value) else f"{value:.3g}" for value in bins))
    return f"{facts.images:,} of {facts.total:,} images ({share:.1f} %); " + "; ".join(
        part.replace("   ", ", ") for part in parts
    )

"""The section that says whether pictures show what prompts ask for. Knows a run's values and tallies; knows no oracle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .adherence import Tally
from .chart import Bullet, Series, bullets, lines, panels
from .html import Content, Markup, element
from .numerals import percent, plain
from .parts import behind, chart, missing, section, table, words
from .run_folder import ReportInput

IMAGES = "images seen"


def adherence(run: ReportInput) -> Markup:
    lead = (
        "How often a small network, the oracle, reads back from the picture what the prompt asked for. "
        "What is the same in every prompt is not asked. "
        "Chance is the best constant answer to these questions; the ring is the same model sampled without a prompt."
    )
    return section("adherence", "Adherence", lead, *_adherence(run))


def _tallies(values: Mapping[str, Any] | None, kind: str) -> dict[str, Tally]:
    return {name: Tally(**each) for name, each in ((values or {}).get(kind) or {}).items()}


def _adherence(run: ReportInput) -> Iterator[Content]:
    found = run.adherence
    asked = _tallies(found.get("model"), "attributes")
    if not asked:
        yield missing("adherence was not measured")
    else:
        yield from _bars(found, asked)
    yield from _curve(run)
    yield from _light(found)


def _bars(found: Mapping[str, Any], asked: dict[str, Tally]) -> Iterator[Content]:
    chance, other, oracle = (
        found.get("chance", {}),
        _tallies(found.get("unconditional"), "attributes"),
        found.get("oracle", {}),
    )
    other_mean = sum(each.accuracy for each in other.values()) / len(other) if other else None
    order = sorted(asked, key=lambda name: -asked[name].accuracy)
    rows = [Bullet("mean", found["mean"], found.get("chance_mean"), other_mean, strong=True)]
    rows += [
        Bullet(
            words(name),
            asked[name].accuracy,
            chance.get(name),
            other[name].accuracy if name in other else None,
            asked[name].interval(),
        )
        for name in order
    ]
    pairs, other_pairs = _tallies(found.get("model"), "pairs"), _tallies(found.get("unconditional"), "pairs")
    rows += [
        Bullet(
            f"{words(name)}*",
            each.accuracy,
            chance.get(name),
            other_pairs[name].accuracy if name in other_pairs else None,
            each.interval(),
        )
        for name, each in pairs.items()
    ]
    drawn = bullets(rows, name="adherence-bars", title="Attributes read as asked, per attribute")
    note = "Share of pictures in which it is as asked; whiskers are 95 % intervals." + (
        " * both right, in pairs never seen in training." if pairs else ""
    )
    yield chart(drawn, "What is in the picture as asked", note, _key(with_other=bool(other)))
    yield behind("The numbers", _bars_table({**asked, **pairs}, chance, {**other, **other_pairs}, oracle))


def _bars_table(
    asked: dict[str, Tally], chance: Mapping[str, float], other: dict[str, Tally], oracle: Mapping[str, float]
) -> Markup:
    body = []
    for name, tally in asked.items():
        low, high = tally.interval()
        interval = f"{100 * low:.1f} to {100 * high:.1f} %"
        ring = percent(other[name].accuracy) if name in other else ""
        body.append(
            [
                words(name),
                f"{tally.right} of {tally.asked}",
                percent(tally.accuracy),
                interval,
                percent(chance[name]) if name in chance else "",
                ring,
                percent(oracle[name]) if name in oracle else "",
            ]
        )
    return table(
        ["Attribute", "Right", "Share", "95 % interval", "Chance", "Without prompt", "Oracle on drawn pictures"],
        body,
        numbers=(1, 2, 3, 4, 5, 6),
    )


def _key(*, with_other: bool) -> Markup:
    """What the marks of the bullets mean, drawn with the same marks."""

    def swatch(mark: Markup, meaning: str) -> Markup:
        return element(
            "li", element("svg", mark, viewBox="0 0 26 18", width=26, height=18, aria_hidden="true"), meaning
        )

    items = [
        swatch(element("rect", x=0, y=3, width=26, height=12, class_="bar accent"), "with the prompt"),
        swatch(element("line", x1=13, x2=13, y1=0, y2=18, class_="chance"), "chance"),
    ]
    if with_other:
        items.append(swatch(element("circle", cx=13, cy=9, r=5, class_="other"), "without a prompt"))
    return element("ul", items, class_="key")


def _curve(run: ReportInput) -> Iterator[Content]:
    mean = Series("mean", run.points("adherence/mean"), dots=True)
    if len(mean.known) < 2:
        return
    level = run.adherence.get("chance_mean")
    curves = [mean]
    if level is not None:
        curves.append(Series("chance", [(mean.known[0][0], level), (mean.known[-1][0], level)], ink="muted"))
    drawn = lines(
        curves,
        name="adherence-curve",
        title="Mean adherence over images seen",
        x_label=IMAGES,
        y_label="attributes as asked",
        y_limits=(0.0, 1.0),
        as_percent=True,
    )
    yield chart(drawn, "Adherence while learning")
    chance = run.adherence.get("chance", {})
    skipped = ("mean", "light_error")
    names = dict.fromkeys(
        key.removeprefix("adherence/") for line in run.metrics for key in line if key.startswith("adherence/")
    )
    shown = [
        name for name in names if not name.startswith(skipped) and "+" not in name and run.has(f"adherence/{name}")
    ]
    if shown:
        each = [Series(words(name), run.points(f"adherence/{name}")) for name in shown]
        small = panels(
            each,
            name="adherence-panels",
            title="Adherence per attribute over images seen",
            x_label=IMAGES,
            rules=[chance.get(name) for name in shown],
            y_limits=(0.0, 1.0),
            num_columns=4,
            as_percent=True,
        )
        yield chart(small, "Attribute by attribute", "Dashed: chance.")
        rows = [
            [words(name), *(percent(value) for _, value in run.points(f"adherence/{name}"))]
            for name in ["mean", *shown]
        ]
        head = ["Attribute", *(f"{int(x):,}" for x, _ in run.points("adherence/mean"))]
        yield behind(
            "The numbers",
            table(head, [row for row in rows if len(row) == len(head)], numbers=tuple(range(1, len(head)))),
        )


def _light(found: Mapping[str, Any]) -> Iterator[Content]:
    if not found.get("light"):
        return
    yield element("h3", "Brightness")
    rows = [
        [words(name), plain(each["asked"]), f"{each['drawn']:.1f}", f"{each['got']:.1f}", f"{each['error']:.1f}"]
        for name, each in found["light"].items()
    ]
    caption = "Mean luma of the pictures, 0 to 255. A model that cannot move the mean of a picture fails at night and in white."
    yield table(
        ["Lighting asked", "Pictures", "True pictures", "Sampled", "Mean error"],
        rows,
        caption=caption,
        numbers=(1, 2, 3, 4),
    )

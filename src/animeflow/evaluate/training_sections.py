"""The sections about what went in: settings, data, and the curves of training. Knows a run's values; knows no picture."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from .chart import Frame, Series, columns, lines, panels
from .html import Content, Markup, element
from .lora_section import enough
from .numerals import percent, plain
from .parts import behind, chart, code, counts, missing, section, setting, table
from .run_folder import ReportInput

BINS = 10
IMAGES = "images seen"
STEPS = ("found", "catalogue", "kept", "sharded", "train", "val")  # in the order of the path
HALF = Frame(512, 250, right=92)
_TIME = re.compile(r"val/loss_t(\d*\.?\d+)$")


def settings(run: ReportInput) -> Markup:
    lead = "What this run was told. Where a preset is known, the settings that differ from it come first."
    return section("settings", "Settings", lead, *_settings(run))


def _settings(run: ReportInput) -> Iterator[Content]:
    if not run.config:
        yield missing("settings are not recorded")
        return
    if not run.preset:
        yield table(
            ["Setting", "This run"], [[code(key), code(setting(value))] for key, value in sorted(run.config.items())]
        )
        return
    keys = sorted({*run.config, *run.preset})
    rows = {key: [code(key), _setting(run.preset, key), _setting(run.config, key)] for key in keys}
    changed = [
        key for key in keys if key not in run.config or key not in run.preset or run.config[key] != run.preset[key]
    ]
    head = ["Setting", "Preset", "This run"]
    if changed:
        yield table(head, [rows[key] for key in changed], changed=[True] * len(changed))
    else:
        yield element("p", "Every setting is the preset's.")
    same = [rows[key] for key in keys if key not in changed]
    if same:
        yield behind(f"{len(same)} settings as in the preset", table(head, same))


def _setting(values: dict[str, Any], key: str) -> Markup:
    return code(setting(values[key])) if key in values else element("span", "absent", class_="missing")


def data(run: ReportInput) -> Markup:
    lead = "What was found, what was kept, and in which sizes and words the model saw it."
    return section("data", "Data", lead, *_data(run))


def _data(run: ReportInput) -> Iterator[Content]:
    known = run.data
    if not known and not run.rejected:
        yield missing("data are not recorded")
        return
    yield element("div", [element("div", part) for part in _tables(run, known)], class_="two")
    yield from _captions(known)


def _tables(run: ReportInput, known: dict[str, Any]) -> Iterator[list[Content]]:
    """Counts side by side, each with its heading."""
    if known.get("counts"):
        steps = sorted(known["counts"], key=lambda name: STEPS.index(name) if name in STEPS else len(STEPS))
        rows = {name: known["counts"][name] for name in steps}
        yield [element("h3", "From files to training"), counts(rows, ("Step", "Pictures"))]
    elif known.get("images") is not None:
        yield [element("h3", "In training"), element("p", f"{plain(known['images'])} pictures.")]
    if known.get("buckets"):
        total = sum(known["buckets"].values()) or 1
        sizes = [[name, plain(number), percent(number / total)] for name, number in known["buckets"].items()]
        yield [element("h3", "Sizes"), table(["Height x width", "Pictures", "Share"], sizes, numbers=(1, 2))]
    none = element("p", "No file was rejected." if "rejected" in known else "Not recorded.")
    yield [element("h3", "Not taken"), counts(run.rejected, ("Reason", "Files")) if run.rejected else none]


def _captions(known: dict[str, Any]) -> Iterator[Content]:
    yield element("h3", "Captions, as the model read them")
    captions = [each if isinstance(each, dict) else {"text": each} for each in known.get("captions") or []]
    if captions:
        items = (
            element(
                "li",
                str(each.get("text", "")),
                element("small", ", ".join(str(each[k]) for k in ("kind", "language") if each.get(k))),
            )
            for each in captions
        )
        yield element("ul", items, class_="captions")
    else:
        yield missing()
    yield element("h3", "Captions cut by a text encoder")
    cut = known.get("truncation")
    if not cut:
        yield missing()
        return
    rows = []
    for encoder, numbers in cut.items():
        share = numbers["truncated"] / numbers["captions"] if numbers.get("captions") else None
        rows.append(
            [
                encoder,
                plain(numbers.get("captions")),
                plain(numbers.get("truncated")),
                percent(share),
                plain(numbers.get("limit")),
            ]
        )
    yield table(["Encoder", "Captions", "Cut", "Share", "Limit in tokens"], rows, numbers=(1, 2, 3, 4))


def training(run: ReportInput) -> Markup:
    lead = (
        "Progress is counted in images seen. Validation uses the same pictures, noise and times at every point, so it "
        "moves only when the model does."
    )
    return section("training", "Training", lead, *_training(run))


def _training(run: ReportInput) -> Iterator[Content]:
    curves = [
        Series("each log line", run.points("train/loss"), faint=True),
        Series("training", run.points("train/loss_ema")),
        Series("validation", run.points("val/loss"), ink="warm", dots=True),
    ]
    if not any(each.known for each in curves):
        yield missing("no loss is recorded")
        return
    if not curves[1].known:
        curves[:2] = [Series("training", run.points("train/loss"))]
    drawn = lines(
        curves, name="loss", title="Loss over images seen", x_label=IMAGES, y_label="velocity loss (mean squared error)"
    )
    yield chart(drawn, "Loss", "Thin: the mean of each log interval. Bold: its running average.")
    yield behind("The numbers", _series_table(curves))
    yield from enough(run)
    yield from _bins(run)
    yield from _validation_times(run)
    yield element("div", list(_optimizer(run)), class_="two")


def _series_table(curves: list[Series], *, rows: int = 24) -> Markup:
    """Values where any curve has one, thinned to about `rows` lines; the last is always there."""
    known = [each for each in curves if each.known]
    places = sorted({x for each in known for x, _ in each.known})
    step = max(1, -(-len(places) // rows))
    kept = [
        x
        for k, x in enumerate(places)
        if k % step == 0 or k == len(places) - 1 or any(each.dots and x in dict(each.known) for each in known)
    ]
    values = [dict(each.known) for each in known]
    body = [[plain(x), *(plain(value[x], digits=4) if x in value else "" for value in values)] for x in kept]
    return table(["Images seen", *(each.name for each in known)], body, numbers=tuple(range(len(known) + 1)))


def _bin_name(k: int) -> str:
    return f"{k / BINS:.1f}–{(k + 1) / BINS:.1f}"


def _bins(run: ReportInput) -> Iterator[Content]:
    """Loss per tenth of the noise scale: what the last interval says, and how each came there."""
    bins = [(k, run.points(f"train/loss_bin_{k}")) for k in range(BINS)]
    known = [(k, points) for k, points in bins if any(value is not None for _, value in points)]
    if not known:
        yield element("h3", "Loss by noise level")
        yield missing()
        return
    last = [(_bin_name(k), [value for _, value in points if value is not None][-1]) for k, points in known]
    bars = columns(
        last,
        name="bins",
        title="Latest loss per noise level",
        x_label="t (0 is the picture, 1 is pure noise)",
        y_label="velocity loss",
        frame=Frame(1040, 260, right=8),
    )
    yield chart(
        bars, "Loss by noise level, now", "Latest log line; a level that no picture drew in it shows its last value."
    )
    rows = [Series(f"t {_bin_name(k)}", points) for k, points in known]
    drawn = panels(rows, name="bins-over-time", title="Loss per noise level over images seen", x_label=IMAGES)
    yield chart(
        drawn, "Loss by noise level, over training", "Same axes in every panel; the number is the latest value."
    )
    yield behind("The numbers", _series_table(rows, rows=16))


def _validation_times(run: ReportInput) -> Iterator[Content]:
    keys = {key for line in run.metrics for key in line if _TIME.match(key)}
    found = sorted((float(_TIME.match(key)[1]), key) for key in keys if run.has(key))  # type: ignore[index]
    if not found:
        return
    rows = [Series(f"t = {t:g}", run.points(key), ink="warm") for t, key in found]
    drawn = panels(rows, name="validation-times", title="Validation loss at fixed times", x_label=IMAGES)
    yield chart(drawn, "Validation at fixed noise levels", "Same pictures, same noise, same t at every point.")
    yield behind("The numbers", _series_table(rows, rows=16))


def _optimizer(run: ReportInput) -> Iterator[Content]:
    rate, norm = Series("rate", run.points("optim/lr")), Series("norm", run.points("train/grad_norm"), ink="cool")
    if rate.known:
        yield chart(
            lines(
                [rate],
                name="rate",
                title="Learning rate over images seen",
                x_label=IMAGES,
                y_label="",
                frame=HALF,
                zero=True,
            ),
            "Learning rate",
        )
    if norm.known:
        drawn = lines(
            [norm],
            name="norm",
            title="Gradient norm over images seen",
            x_label=IMAGES,
            y_label="",
            frame=HALF,
            log=True,
        )
        yield chart(drawn, "Gradient norm, before clipping (logarithmic)")
    speed = Series("images/s", run.points("time/images_per_second"))
    if speed.known:
        yield chart(
            lines(
                [speed],
                name="speed",
                title="Images per second over images seen",
                x_label=IMAGES,
                y_label="",
                frame=HALF,
                zero=True,
            ),
            "Speed, images per second",
        )
    wait = Series("waiting", run.points("time/data_wait_share"), ink="cool")
    if wait.known:
        drawn = lines(
            [wait],
            name="wait",
            title="Share of time spent waiting for data",
            x_label=IMAGES,
            y_label="",
            frame=HALF,
            y_limits=(0.0, 1.0),
            as_percent=True,
        )
        yield chart(drawn, "Share of time waiting for data")

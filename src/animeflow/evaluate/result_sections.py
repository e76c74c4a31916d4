"""The sections about what came out: pictures, solvers, cost, files. Knows a run's values; knows no model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..core.errors import DataError
from ..sample import png
from .html import Content, Markup, element
from .numerals import duration, percent, plain, size
from .parts import code, facts, missing, picture, section, table, words
from .run_folder import ReportInput

GRID_COLUMNS = 7


def grid(run: ReportInput, home: Path) -> Markup:
    lead = (
        "The same prompt from the same noise, as training goes on. Each row is one prompt and one seed; a picture opens "
        "its file beside this page."
    )
    if not run.samples:
        return section("pictures", "Pictures over training", lead, missing("no pictures were sampled"))
    columns = _thinned(list(run.samples))
    numbers = sorted({number for images in columns for number in run.samples[images]})
    head = element(
        "thead", element("tr", element("td"), [element("th", f"{images:,}", scope="col") for images in columns])
    )
    rows = []
    for number in numbers:
        prompt = run.prompts[number] if number < len(run.prompts) else f"prompt {number}"
        cells = [
            element("td", _linked(run.samples[images].get(number), home, f"{prompt}; after {images:,} images"))
            for images in columns
        ]
        rows.append(element("tr", element("th", prompt, scope="row"), cells))
    left_out = len(run.samples) - len(columns)
    note = (
        element("p", f"{left_out} of {len(run.samples)} points in between are left out here.", class_="missing")
        if left_out
        else None
    )
    caption = element("caption", "Columns: images seen")
    body = element("div", element("table", caption, head, element("tbody", rows), class_="grid"), class_="wide")
    return section("pictures", "Pictures over training", lead, body, note)


def _thinned(columns: list[int]) -> list[int]:
    """At most GRID_COLUMNS, evenly over the run, with the first and the last."""
    if len(columns) <= GRID_COLUMNS:
        return columns
    return [columns[round(k * (len(columns) - 1) / (GRID_COLUMNS - 1))] for k in range(GRID_COLUMNS)]


def _linked(path: Path | None, home: Path, alt: str) -> Content:
    if path is None:
        return element("span", "none", class_="missing")
    return element("a", picture(path, alt), href=quote(os.path.relpath(path, home).replace(os.sep, "/")))


def sheet(run: ReportInput, home: Path) -> Markup:
    lead = (
        "The last pictures, larger. Where the oracle read the same picture, what it missed is named: asked, then seen."
    )
    if not run.samples:
        return section("sheet", "Final pictures", lead, missing("no pictures were sampled"))
    images, last = list(run.samples.items())[-1]
    rows = run.adherence.get("pictures", []) if run.adherence.get("images_seen") == images else []
    readings = {(each.get("prompt"), each.get("seed")): each for each in rows if each.get("seed") is not None}
    items = []
    for number, path in last.items():
        prompt = run.prompts[number] if number < len(run.prompts) else f"prompt {number}"
        alt = f"{prompt}; after {images:,} images"
        link = element("a", picture(path, alt, side=384), href=quote(os.path.relpath(path, home).replace(os.sep, "/")))
        items.append(element("li", link, element("p", prompt), _reading(readings.get((prompt, _seed(path))))))
    return section("sheet", "Final pictures", lead, element("ul", items, class_="sheet"))


def _seed(path: Path) -> Any:
    """The seed in the picture's recipe: a reading belongs to one picture, not to every picture of its prompt."""
    try:
        return png.read_recipe(path).get("seed")
    except DataError:
        return None


def _reading(found: Mapping[str, Any] | None) -> Content:
    if not found:
        return None
    right, asked = len(found["right"]), len(found["right"]) + len(found["wrong"])
    missed = [
        element("span", words(found["truth"][name]), " → ", element("span", words(found["read"][name]), class_="wrong"))
        for name in found["wrong"]
    ]
    parts: list[Content] = [element("strong", f"{right} of {asked}")]
    for each in missed:
        parts += ["; " if len(parts) > 1 else ": ", each]
    return element("p", parts, class_="read")


def solvers(run: ReportInput) -> Markup:
    lead = (
        "What an integration costs: evaluations of the network per picture (NFE), and what is gained by more of them."
    )
    if not run.solvers:
        return section("solvers", "Solvers", lead, missing("no solvers were compared"))
    first = ("solver", "steps", "nfe", "seconds", "adherence")
    every = dict.fromkeys(key for row in run.solvers for key in row)
    keys = [key for key in first if key in every] + [key for key in every if key not in first]
    body = [[_cell(row.get(key), share=key in ("adherence", "mean")) for key in keys] for row in run.solvers]
    head = ["NFE" if key == "nfe" else words(key).capitalize() for key in keys]
    return section("solvers", "Solvers", lead, table(head, body, numbers=tuple(range(1, len(keys)))))


def _cell(value: Any, *, share: bool) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "" if value is None else str(value)
    return percent(value) if share else plain(value)


def cost(run: ReportInput) -> Markup:
    lead = "What it took, measured."
    record, price = run.record, run.record.get("price")
    seconds, peak = record.get("seconds"), record.get("peak_memory_gib")
    stages = {}
    if isinstance(seconds, Mapping):
        stages = {f"Time, {words(str(name))}": duration(value) for name, value in seconds.items()}
        seconds = sum(seconds.values())
    rate = (
        run.images_seen / seconds if seconds and run.images_seen and not stages else run.last("time/images_per_second")
    )
    rows: dict[str, Content] = {
        "Hardware": str(record["hardware"]) if record.get("hardware") else None,
        "Time" + (", all stages" if stages else ", training"): duration(seconds) if seconds else None,
        **stages,
        "Images per second": plain(rate) if rate else None,
        "Peak memory": size(peak * 2**30) if peak else None,
        "Device hours": plain(record["device_hours"]) if record.get("device_hours") is not None else None,
    }
    if price:
        rows["Price"] = f"{price['low']:.2f} to {price['high']:.2f} {price.get('currency', 'USD')}" + (
            f" ({price['dated']})" if price.get("dated") else ""
        )
    return section("cost", "Cost", lead, facts(rows))


def origin(run: ReportInput) -> Markup:
    lead = "What made this, so that it can be made again."
    record = run.record
    rows: dict[str, Content] = {f"{name}": str(value) for name, value in (record.get("versions") or {}).items()}
    hashes = {"config_hash": "Settings", **{key: words(key) for key in ("git_commit", "base", "seed", "date")}}
    rows |= {label: code(record[key]) for key, label in hashes.items() if record.get(key) is not None}
    rows |= {words(key): code(run.data[key]) for key in ("catalogue_hash", "manifest_hash") if run.data.get(key)}
    rows |= {f"part: {words(name)}": code(value) for name, value in (record.get("parts") or {}).items()}
    return section("origin", "Versions and hashes", lead, facts(rows) if rows else missing())


def files(run: ReportInput) -> Markup:
    lead = "What the export wrote, and where other programs want it. Paths are relative to the export's folder."
    listed = run.export.get("files") or []
    if isinstance(listed, Mapping):
        listed = [{"path": path, **(each if isinstance(each, Mapping) else {})} for path, each in listed.items()]
    if not listed:
        return section("files", "Files", lead, missing("nothing was exported"))
    body = [
        [
            code(each.get("path", "")),
            size(each.get("bytes")),
            code(str(each.get("sha256", ""))[:16]),
            destination(str(each.get("path", "")), run.export.get("places") or {}),
        ]
        for each in listed
    ]
    return section(
        "files", "Files", lead, table(["File", "Size", "SHA-256, first 16", "Where it goes"], body, numbers=(1,))
    )


def destination(path: str, places: Mapping[str, str]) -> str:
    """Where this file of an export goes: what its layout says, without the marks of Markdown."""
    layout, _, rest = path.partition("/")
    return str(places.get(layout, "")).replace("`", "") if rest else ""

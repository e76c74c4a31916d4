"""The section that says whether a LoRA learned who somebody is, and what that cost. Knows a run's values; knows no oracle."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from .html import Content, Markup, element
from .identity import IdentityReport, Measured
from .numerals import percent
from .parts import code, missing, picture, section, table, words
from .run_folder import ReportInput


def identity(run: ReportInput, home: Path) -> Markup:
    lead = (
        "The prompts name the trigger and everything that is free, and nothing that makes her who she is. What a small network, "
        "the oracle, reads of that from the pictures came from the training; the base had never seen her. Ordinary prompts "
        "beside them say what it cost."
    )
    return section("identity", "Identity", lead, *_identity(run, home))


def _identity(run: ReportInput, home: Path) -> Iterator[Content]:
    if not run.identity:
        yield missing("identity was not measured")
        return
    report = IdentityReport.from_dict(run.identity)
    yield element(
        "p", "The guest is ", element("strong", words(report.guest)), ", called by ", code(report.trigger), "."
    )
    if report.after is None:
        yield missing("the run has not come to its end, so only the base was asked")
    yield _numbers(report)
    if report.lost is not None:
        harm = "They are unharmed" if report.unharmed else "They are harmed"
        yield element("p", f"Ordinary prompts lost {100 * report.lost:.1f} points. {harm}: the limit is 5.")
    yield from _sheet(run, report, home)


def _numbers(report: IdentityReport) -> Markup:
    """Before and after, attribute by attribute."""
    states = [state for state in (report.before, report.after) if state is not None]
    rows: list[list[Content]] = [_row("identity, mean", [state.identity for state in states])]
    rows += [_row(words(name), [_share(state, name) for state in states]) for name in report.before.fixed]
    rows.append(_row("what the prompts say, mean", [state.followed for state in states]))
    rows += [_row(words(name), [_share(state, name) for state in states]) for name in report.before.named]
    if report.before.adherence is not None:
        rows.append(_row("ordinary prompts, mean", [state.adherence for state in states]))
    head = ["Read right", *(f"At {state.images_seen:,} images" for state in states)]
    asked = next(iter(report.before.fixed.values())).asked
    return table(head, rows, caption=f"Of {asked} pictures each", numbers=tuple(range(1, len(head))))


def _row(name: str, values: list[float | None]) -> list[Content]:
    return [name, *("" if value is None else percent(value) for value in values)]


def _share(state: Measured, name: str) -> float | None:
    tally = {**state.fixed, **state.named}.get(name)
    return None if tally is None else tally.accuracy


def _sheet(run: ReportInput, report: IdentityReport, home: Path) -> Iterator[Content]:
    """The same prompt and noise, before and after."""
    if not report.pictures:
        return
    head = element(
        "thead", element("tr", element("td"), [element("th", each, scope="col") for each in ("Before", "After")])
    )
    rows = []
    for row in report.pictures:
        cells = []
        for when in ("before", "after"):
            path = run.folder / str(row[when])
            if path.is_file():
                link = quote(os.path.relpath(path, home).replace(os.sep, "/"))
                cells.append(element("td", element("a", picture(path, f"{row['prompt']}; {when}"), href=link)))
            else:
                cells.append(element("td", element("span", "none", class_="missing")))
        rows.append(element("tr", element("th", str(row["prompt"]), scope="row"), cells))
    body = element("table", element("caption", "The same prompt, the same noise"), head, element("tbody", rows))
    yield element("div", element("div", body, class_="grid"), class_="wide")

"""One page that shows a run: a single HTML file that needs nothing beside it and loads nothing from anywhere. Knows
sections; knows no model and no config.

The page has no script, and its policy forbids any: what a booru's tags or captions contain can only ever be read.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

from .. import __version__
from ..core.files import write_text
from . import adherence_section, identity_section, lora_section, probe_sections, screening_section
from . import result_sections as result
from . import training_sections as inputs
from .html import Markup, element
from .identity import IdentityReport
from .numerals import duration, percent, plain, size
from .parts import words
from .run_folder import ReportInput, read_run

NAV = {
    "lora": "LoRA",
    "identity": "Identity",
    "adherence": "Adherence",
    "languages": "Languages",
    "official": "Official styles",
    "sheet": "Pictures",
    "pictures": "Over training",
    "training": "Curves",
    "solvers": "Solvers",
    "data": "Data",
    "screening": "Planted",
    "settings": "Settings",
    "cost": "Cost",
    "files": "Files",
    "origin": "Versions",
}


def write_report(
    run_dir: str | Path,
    *,
    out: str | Path | None = None,
    config: Mapping[str, Any] | None = None,
    preset: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """Write the page of a run, whole or not at all; returns its path, `run_dir/report.html` unless `out` is given.

    Parts that a run does not have are shown as not recorded. See `read_run` for the other arguments and errors.
    """
    run = read_run(run_dir, config=config, preset=preset, extra=extra)
    path = Path(out) if out is not None else run.folder / "report.html"
    write_text(path, page(run, home=path.parent))
    return path


def page(run: ReportInput, *, home: Path) -> str:
    """The HTML. Links to full pictures are relative to `home`; thumbnails are inside."""
    style = resources(__package__).joinpath("page.css").read_text()
    name = str(run.record.get("name") or run.folder.name)
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=policy(style)),
        element("meta", name="referrer", content="no-referrer"),
        element("title", f"{name}: run report"),
        element("style", Markup(style)),
    )
    body = element(
        "body",
        header(run, name),
        element(
            "nav",
            element("ul", [element("li", element("a", NAV[key], href=f"#{key}")) for key in shown(run)]),
            aria_label="Sections",
        ),
        element("main", *_sections(run, home)),
        element(
            "footer",
            element(
                "p",
                f"Written by animeflow {__version__} from the files of this run. Every figure was measured; none was typed.",
            ),
        ),
    )
    return "<!doctype html>\n" + element("html", head, body, lang="en") + "\n"


def policy(style: str) -> str:
    """Content-Security-Policy: this style sheet by its hash, pictures inside the page, and nothing else."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"


def _sections(run: ReportInput, home: Path) -> Iterator[Markup]:
    made = {
        "lora": lora_section.lora(run),
        "identity": identity_section.identity(run, home),
        "adherence": adherence_section.adherence(run),
        "languages": probe_sections.languages(run) if run.languages else Markup(""),
        "official": probe_sections.official(run) if run.official else Markup(""),
        "sheet": result.sheet(run, home),
        "pictures": result.grid(run, home),
        "training": inputs.training(run),
        "solvers": result.solvers(run),
        "data": inputs.data(run),
        "screening": screening_section.screening(run) if run.screening else Markup(""),
        "settings": inputs.settings(run),
        "cost": result.cost(run),
        "files": result.files(run),
        "origin": result.origin(run),
    }
    yield from (made[key] for key in shown(run))


def shown(run: ReportInput) -> list[str]:
    """The sections of this page: those about a LoRA, or about planted pictures, only where there are any; a LoRA need not have
    been asked for adherence."""
    lora = bool(lora_section.learned(run))
    left_out = {"lora": not lora, "identity": not run.identity, "adherence": lora and not run.adherence}
    left_out |= {"screening": not run.screening, "languages": not run.languages, "official": not run.official}
    return [key for key in NAV if not left_out.get(key)]


def header(run: ReportInput, name: str) -> Markup:
    record = run.record
    kind = " ".join(str(record[key]) for key in ("family", "flavour") if record.get(key))
    kicker = " · ".join(part for part in ("Run report", kind, str(record.get("date") or "")[:10]) if part)
    return element(
        "header",
        element("p", kicker, class_="kicker"),
        element("h1", name),
        element("p", verdict(run), class_="verdict"),
        element("dl", list(_figures(run)), class_="figures"),
    )


def verdict(run: ReportInput) -> str:
    """One sentence in measured numbers: what it does, against what, after how much."""
    seen = run.images_seen
    after = f" after {seen:,} images" if seen else ""
    seconds = run.record.get("seconds")
    total = sum(seconds.values()) if isinstance(seconds, Mapping) else seconds
    after += f" in {duration(total)}" if after and total else ""
    mean = run.adherence.get("mean")
    hers = _identity(run)
    if hers is not None:
        return f"{hers}{after or ' at an unrecorded point'}."
    if mean is not None:
        level = run.adherence.get("chance_mean")
        against = f", where guessing gives {percent(level)}" if level is not None else ""
        return f"{percent(mean)} of what the prompts ask for is in the pictures{against},{after or ' at an unrecorded point'}."
    for key, called in (("val/loss", "Validation loss"), ("train/loss_ema", "Training loss")):
        known = [value for _, value in run.points(key) if value is not None]
        if len(known) > 1:
            return f"{called} went from {plain(known[0])} to {plain(known[-1])}{after}. Adherence was not measured."
    return "This run has recorded no result yet."


def _identity(run: ReportInput) -> str | None:
    """What a LoRA came to, and what it cost; None where nobody was asked for."""
    if not run.identity.get("after"):
        return None
    report = IdentityReport.from_dict(run.identity)
    assert report.after is not None
    told = (
        f"{words(report.guest)} is drawn as she is in {percent(report.after.identity)} of her attributes, "
        f"where the base gives {percent(report.before.identity)}"
    )
    lost = "" if report.lost is None else f"; ordinary prompts lost {100 * report.lost:.1f} points,"
    return told + (lost or ",")


def _figures(run: ReportInput) -> Iterator[Markup]:
    """The few numbers one looks for first; those that are not known are not shown."""
    record, found = run.record, run.adherence
    attributes = found.get("attributes") or {}
    chance = found.get("chance") or {}
    if found.get("mean") is not None:
        yield _figure("Adherence, mean", percent(found["mean"]), _versus(found.get("chance_mean")))
    for name in ("hair_color", "background"):
        if name in attributes:
            yield _figure(words(name).capitalize(), percent(attributes[name]), _versus(chance.get(name)))
    if run.identity.get("after"):
        report = IdentityReport.from_dict(run.identity)
        assert report.after is not None
        yield _figure("Identity", percent(report.after.identity), f"before {percent(report.before.identity)}")
        if report.lost is not None:
            yield _figure("Others lost", f"{100 * report.lost:.1f} points", "limit 5")
    loss = run.last("val/loss")
    if loss is not None:
        yield _figure("Validation loss", plain(loss), "velocity, fixed noise")
    if record.get("parameters"):
        learn = record.get("learn")
        learned = learn.get("parameters") if isinstance(learn, dict) else None
        number, about = record["parameters"], "trained"
        if isinstance(learned, int):
            number, about = learned, f"learned, of {_millions(record['parameters'])}"
        yield _figure("Parameters", _millions(number), about)
    if record.get("peak_memory_gib"):
        yield _figure("Peak memory", size(record["peak_memory_gib"] * 2**30), "while training")


def _figure(name: str, value: str, note: str = "") -> Markup:
    return element("div", element("dt", name), element("dd", value, element("small", note) if note else None))


def _versus(level: float | None) -> str:
    return f"chance {percent(level)}" if level is not None else ""


def _millions(count: float) -> str:
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= unit:
            return f"{count / unit:.2f} {name}"
    return str(count)

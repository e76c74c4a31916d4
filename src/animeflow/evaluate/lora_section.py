"""The section about additions to a frozen base, and the sentence on when they had learned enough. Knows a run's values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .chart import Series, lines
from .early_stop import early_stop
from .html import Content, Markup, element
from .numerals import plain
from .parts import chart, code, facts, section, setting, table
from .run_folder import ReportInput

IMAGES = "images seen"


def lora(run: ReportInput) -> Markup:
    lead = "What learned, and what it hangs on. All else of the base was frozen."
    return section("lora", "LoRA", lead, *_lora(run))


def learned(run: ReportInput) -> Mapping[str, Any]:
    """What the record says of the additions; empty for a run that trained none."""
    found = run.record.get("learn")
    return found if isinstance(found, Mapping) and found.get("kind") == "lora" else {}


def _lora(run: ReportInput) -> Iterator[Content]:
    learn = learned(run)
    rows: dict[str, Content] = {
        "Base": str(learn.get("base") or run.record.get("base") or ""),
        "Rank": _told(learn.get("rank")),
        "Alpha": _told(learn.get("alpha") if learn.get("alpha") is not None else learn.get("rank")),
        "Targets": _told(learn.get("targets")),
        "Layers": _told(learn.get("layers")),
        "Parameters": plain(learn["parameters"]) if isinstance(learn.get("parameters"), int | float) else None,
        **_rates(run, learn),
    }
    yield facts(rows)
    yield from _concepts(run)


def _told(value: Any) -> str | None:
    return None if value is None else plain(value) if isinstance(value, int) else setting(value)


def _rates(run: ReportInput, learn: Mapping[str, Any]) -> dict[str, Content]:
    """The learning rate, and what it means at this alpha and rank: half the alpha at twice the rate walks as far."""
    rate, rank, alpha = run.config.get("optim.lr"), learn.get("rank"), learn.get("alpha")
    if not isinstance(rate, int | float):
        return {"Learning rate": None}
    if not isinstance(rank, int) or rank < 1:
        return {"Learning rate": f"{rate:g}"}
    scale = (alpha if isinstance(alpha, int | float) else rank) / (
        rank**0.5 if run.config.get("learn.rslora") else rank
    )
    return {
        "Learning rate": f"{rate:g}",
        "Learning rate x scale of the additions": f"{rate * scale:g} (scale {scale:g})",
    }


def _concepts(run: ReportInput) -> Iterator[Content]:
    """Who or what was taught, by which word, from how many pictures."""
    keys = ("trigger", "class", "prune", "prior")
    found: dict[str, dict[str, Any]] = {}
    for key, value in run.config.items():
        room, _, rest = key.partition("text.concepts.")
        name, _, option = rest.rpartition(".")
        if not room and option in keys:
            found.setdefault(name, {})[option] = value
    counted = run.data.get("sources")
    pictures = counted if isinstance(counted, Mapping) else {}
    if not found:
        return
    rows: list[list[Content]] = []
    for name, node in sorted(found.items()):
        trigger = code(node["trigger"]) if node.get("trigger") else "none"
        kind = "prior" if node.get("prior") else "taught"
        prune = ", ".join(map(str, node["prune"])) if isinstance(node.get("prune"), list) else ""
        repeats = run.config.get(f"data.loader.repeats.{name}")
        rows.append(
            [
                name,
                kind,
                trigger,
                str(node.get("class") or ""),
                prune,
                _told(pictures.get(name)) or "",
                _told(repeats) or "1",
            ]
        )
    yield element("h3", "Concepts")
    yield table(
        ["Concept", "Kind", "Trigger", "Class", "Tags it takes over", "Pictures", "Repeats"], rows, numbers=(5, 6)
    )


def enough(run: ReportInput) -> Iterator[Content]:
    """What the held-out loss says about the length of the run, with a mark where it was lowest; nothing where it has no shape."""
    found = early_stop(run.metrics)
    if found is None:
        return
    drawn = lines(
        [Series("held out", [(float(images), loss) for images, loss in found.points], ink="warm", dots=True)],
        name="early-stop",
        title="Held-out loss at the middle noise levels",
        x_label=IMAGES,
        y_label="velocity loss, t from 0.3 to 0.8",
        marks=[(float(found.best_images), f"lowest: {plain(found.best_loss, digits=4)}")],
    )
    said = found.sentence[:1].upper() + found.sentence[1:]
    yield chart(drawn, "When to stop", f"{said}. {found.advice[:1].upper()}{found.advice[1:]}.")

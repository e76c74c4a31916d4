"""The section that says what the screens found of what was planted among the pictures. Knows a run's values; screens nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .html import Content, Markup, element
from .parts import behind, code, picture, section, table, words
from .run_folder import ReportInput
from .screening import OUTCOMES, Screening

SHOWN = 6  # pictures of each kind


def screening(run: ReportInput) -> Markup:
    lead = (
        "Among the drawn pictures some were put that a set should not have, with the truth about them: copies, versions of a "
        "drawing, pictures with a generator's text, watermarks. The table counts what the screens and the query made of them, "
        "and of the pictures that nobody planted."
    )
    return section("screening", "What was planted", lead, *_screening(run))


def _screening(run: ReportInput) -> Iterator[Content]:
    found = Screening.from_dict(run.screening)
    rows: list[list[Content]] = [
        [words(kind), OUTCOMES[kind], f"{each.found} of {each.planted}"] for kind, each in found.kinds.items()
    ]
    rows.append(["false alarms", "nobody planted them, and they are out", f"{len(found.lost)} of {found.ordinary:,}"])
    yield table(["Kind", "What has to become of it", "Found"], rows, numbers=(2,))
    folder = Path(str(run.screening.get("folder", "")))
    yield from _sheet(found, folder, run.screening.get("shown", {}))
    missed = [(file, kind) for kind, each in found.kinds.items() for file in each.missed] + list(found.lost.items())
    if missed:
        listed = [[code(file), words(why)] for file, why in missed]
        yield behind(f"The {len(missed)} that were missed or lost", table(["File", "Kind, or what took it"], listed))


def _sheet(found: Screening, folder: Path, shown: dict[str, list[str]]) -> Iterator[Content]:
    """Some pictures of every kind."""
    rows = []
    for kind in found.kinds:
        files = [folder / name for name in shown.get(kind, [])[:SHOWN]]
        cells = [element("td", picture(file, f"{words(kind)}: {file.name}")) for file in files if file.is_file()]
        if cells:
            rows.append(element("tr", element("th", words(kind), scope="row"), cells))
    if rows:
        body = element("table", element("caption", "Some of each kind"), element("tbody", rows))
        yield element("div", element("div", body, class_="grid"), class_="wide")

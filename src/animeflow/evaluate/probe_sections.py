"""The sections about what a run was asked once: languages, and characters' official styles. Knows a run's values."""

from __future__ import annotations

from collections.abc import Iterator

from .html import Content, Markup, element
from .numerals import percent
from .official import LIMIT as OFFICIAL_LIMIT
from .official import OfficialReport
from .parity import BEHIND, LEVEL, LIMIT, UNCLEAR, ParityReport
from .parts import behind, section, table, words
from .run_folder import ReportInput

VERDICTS = {LEVEL: "level", BEHIND: "behind", UNCLEAR: "too few pictures to tell"}


def languages(run: ReportInput) -> Markup:
    lead = (
        "The same scenes and seeds, told in every language by the words of the tag database. A language is behind where it lies "
        f"more than {LIMIT:.0f} points below the first one, and certainly below it: the interval compares picture by picture."
    )
    return section("languages", "Languages", lead, *_languages(ParityReport.from_dict(run.languages)))


def _languages(report: ParityReport) -> Iterator[Content]:
    rows: list[list[Content]] = []
    for name, spoken in report.languages.items():
        low, high = spoken.interval
        apart = "" if name == report.reference else f"{spoken.gap:.1f} ({low:.1f} to {high:.1f})"
        without = f"{spoken.missing:,} of {spoken.words:,}"
        judged = "" if name == report.reference else VERDICTS[spoken.verdict]
        rows.append([name, percent(spoken.score.mean or 0.0), apart, judged, without])
    head = ["Language", "As asked", f"Points below {report.reference}", "", "Tags without a word"]
    note = "" if report.chance_mean is None else f"Guessing gives {percent(report.chance_mean)}."
    yield table(head, rows, caption=note, numbers=(1, 2, 4))
    names = list(report.languages[report.reference].score.attributes)
    each = [
        [words(name), *(percent(spoken.score.accuracy().get(name, 0.0)) for spoken in report.languages.values())]
        for name in names
    ]
    numbers = tuple(range(1, len(report.languages) + 1))
    yield behind("Attribute by attribute", table(["Attribute", *report.languages], each, numbers=numbers))
    told = [[name, text] for name, text in report.prompts.items()]
    yield behind("One prompt in each", table(["Language", "Prompt"], told))


def official(run: ReportInput) -> Markup:
    lead = (
        "Prompts that name a character alone should give the style of her series' own artist; prompts that name another artist, "
        f"that artist's. Both should be {percent(OFFICIAL_LIMIT)} at least, as read by the oracle."
    )
    return section("official", "Official styles", lead, *_official(OfficialReport.from_dict(run.official)))


def _official(report: OfficialReport) -> Iterator[Content]:
    asked = (
        ("no artist: the official style", report.default, report.chance["default"]),
        ("another artist: that one's style", report.followed, report.chance["followed"]),
        ("another artist: the official style all the same", report.ignored, None),
    )
    rows: list[list[Content]] = []
    for name, tally, chance in asked:
        low, high = tally.interval()
        guess = "" if chance is None else percent(chance)
        rows.append(
            [
                name,
                f"{tally.right} of {tally.asked}",
                percent(tally.accuracy),
                f"{100 * low:.1f} to {100 * high:.1f} %",
                guess,
            ]
        )
    yield table(["Prompts with", "Pictures", "Share", "95 % interval", "Chance"], rows, numbers=(1, 2, 3, 4))
    yield element("p", "Passed." if report.passed else "Not passed.")

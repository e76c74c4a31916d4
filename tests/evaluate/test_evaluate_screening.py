"""What screens found is counted by its effect on the set: each kind in its way, and what nobody planted as a false alarm."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from animeflow.evaluate.report import write_report
from animeflow.evaluate.screening import OUTCOMES, Fate, Screening, screened
from animeflow.toonworld.planted import KINDS

IN, OUT = Fate(True, "rest"), Fate(False, "copies")


def plant(kind: str, of: str | None) -> dict:
    return {"file": f"p/{kind}.png", "planted": {"kind": kind, "of": of}}


def one(kind: str, fate: Fate | None, original: Fate | None = None) -> Screening:
    fates = ({f"p/{kind}.png": fate} if fate else {}) | ({"a.png": original} if original else {})
    return screened([plant(kind, "a.png" if original else None)], fates)


@pytest.mark.parametrize(
    ("kind", "fate", "original", "found"),
    [
        ("copy", Fate(False, "duplicate_file"), IN, True),
        ("copy", OUT, IN, False),
        ("jpeg", Fate(False, "copies", duplicate=1), Fate(True, "rest", duplicate=1), True),
        ("jpeg", Fate(True, "rest", duplicate=1), Fate(False, "copies", duplicate=1), True),
        ("jpeg", Fate(True, "rest", duplicate=1), Fate(True, "rest", duplicate=1), False),  # both are in
        ("jpeg", Fate(False, "copies", duplicate=1), Fate(False, "copies", duplicate=1), False),  # the drawing is lost
        ("jpeg", Fate(False, "copies", duplicate=2), Fate(True, "rest", duplicate=1), False),  # for another's sake
        ("crop", OUT, IN, False),
        ("mirrored", Fate(False, "copies", duplicate=1), Fate(True, "rest", duplicate=1), True),
        ("mirrored", IN, IN, False),
        ("variant", Fate(True, "rest", variant=1), Fate(True, "rest", variant=1), True),
        ("variant", Fate(False, "copies", variant=1), Fate(True, "rest", variant=1), False),  # an expression is lost
        ("variant", IN, IN, False),  # nobody knows that they belong together
        ("generated", Fate(False, "origin.ai"), None, True),
        ("generated", IN, None, False),
        ("watermarked", None, None, False),
    ],
)
def test_a_find_is_its_effect_on_the_set(kind: str, fate: Fate | None, original: Fate | None, found: bool):
    account = one(kind, fate, original)
    assert (account.kinds[kind].planted, account.kinds[kind].found) == (1, int(found))
    assert account.kinds[kind].missed == ([] if found else [f"p/{kind}.png"])


def test_what_nobody_planted_and_is_out_is_a_false_alarm_unless_its_copy_took_its_place():
    fates = {
        "a.png": Fate(False, "copies", duplicate=1), "p/jpeg.png": Fate(True, "rest", duplicate=1),
        "b.png": Fate(False, "watermarks"), "c.png": IN,
    }  # fmt: skip
    account = screened([plant("jpeg", "a.png")], fates)
    assert account.ordinary == 3 and account.lost == {"b.png": "watermarks"}
    assert Screening.from_dict(json.loads(json.dumps(account.as_dict()))) == account
    assert any("1 of 3" in line for line in account.lines())


def test_every_kind_that_is_planted_has_an_outcome():
    assert set(OUTCOMES) == set(KINDS)


def test_the_report_shows_the_account_and_only_where_there_is_one(tmp_path: Path):
    assert 'id="screening"' not in write_report(tmp_path).read_text()
    account = one("generated", IN).as_dict() | {"folder": str(tmp_path), "shown": {}}
    (tmp_path / "screening.json").write_text(json.dumps(account))
    page = write_report(tmp_path).read_text()
    assert "0 of 1" in page and "p/generated.png" in page and 'href="#screening"' in page

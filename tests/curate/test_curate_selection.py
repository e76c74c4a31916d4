"""What a query takes out: every picture decided once, in the order of the steps, the same every time, and no other file read."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from curate_rows import catalogue, post, put_groups, put_scores, sha, uid

from animeflow.app.verbs import filter as filter_verb
from animeflow.catalogue.post import ORIGINS
from animeflow.catalogue.table import Catalogue
from animeflow.core.errors import ConfigError, DataError
from animeflow.curate.cap import allowed, chosen
from animeflow.curate.decisions import DecisionLog
from animeflow.curate.event import Decision
from animeflow.curate.query import Query
from animeflow.curate.selection import Selection, select
from animeflow.curate.view import View

ALL = 240


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalogue that nobody changes."""
    folder = tmp_path_factory.mktemp("plain") / "catalogue"
    catalogue(folder, [post(number) for number in range(ALL)])
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One to write beside."""
    catalogue(tmp_path / "catalogue", [post(number) for number in range(40)])
    return tmp_path / "catalogue"


def query(*rules: tuple[str, str, str], **said: Any) -> Query:
    nodes = [{"name": name, action: text, "why": "w"} for name, action, text in rules]
    return Query.from_config({"name": "q", "rules": nodes} | said)


def numbers(selection: Selection) -> list[int]:
    """Which pictures are in, by the number of each."""
    known = {uid(number): number for number in range(ALL)}
    return [known[each] for each in selection.uids.tolist()]


def check_sum(selection: Selection, total: int) -> None:
    fates = selection.counts.values()
    assert sum(each["dropped"] + each["kept"] for each in fates) == selection.total == total
    assert sum(each["kept"] for each in fates) == len(selection) == len(selection.uids)


def test_the_open_query_is_all_of_it_in_the_order_of_the_table(plain: Path):
    found = select(Catalogue(plain), query(provenance={"unknown": "allow"}))
    assert numbers(found) == list(range(ALL)) and not found.is_trivial, (
        "whoever allows what is generated has it written down"
    )
    assert list(found.posts()) == Catalogue(plain).posts()
    check_sum(found, ALL)


def test_the_first_rule_that_fits_decides(plain: Path):
    rules = [
        ("kept", "keep", "width % 7 = 0"),
        ("small", "drop", "width < 180"),
        ("solo", "drop", "list_contains(tags.general, 'solo')"),
    ]
    found = select(plain, query(*rules))
    width = [100 + number for number in range(ALL)]
    fates = ["kept" if w % 7 == 0 else "small" if w < 180 else "solo" if n % 2 else "rest" for n, w in enumerate(width)]
    assert numbers(found) == [n for n, fate in enumerate(fates) if fate in ("kept", "rest")]
    assert {name: sum(each.values()) for name, each in found.counts.items() if sum(each.values())} == {
        fate: fates.count(fate) for fate in set(fates)
    }
    check_sum(found, ALL)
    for number in (0, 5, 83, 100):
        told = found.why(uid(number))
        assert fates[number] in told or told == "in: no rule speaks of it"
    other = select(plain, query(*reversed(rules)))
    assert numbers(other) != numbers(found)


def test_a_condition_that_is_unknown_of_a_picture_does_not_fit(plain: Path):
    assert numbers(select(plain, query(("url", "drop", "url like '%x%'")))) == list(range(ALL))
    assert numbers(select(plain, query(("no", "drop", "not (url like '%x%')")))) == list(range(ALL))


def test_the_same_words_choose_the_same_rows(plain: Path, tmp_path: Path):
    made = {"slice": "1/3", "provenance": {"ai": {"cap": 0.1}, "unknown": {"cap": 0.15}}}
    first, again = (
        select(plain, query(("a", "drop", "width > 300"), **made)),
        select(plain, query(("a", "drop", "width > 300"), **made)),
    )
    assert first.as_dict() == again.as_dict()
    back = catalogue(tmp_path / "catalogue", [post(number) for number in reversed(range(ALL))])
    assert sorted(numbers(select(back, first.query))) == sorted(numbers(first)), (
        "the order of the table chooses nothing"
    )


def test_slices_part_the_set_and_nothing_else(plain: Path):
    said = {"provenance": {"ai": {"cap": 0.1}}}
    whole = numbers(select(plain, query(("a", "drop", "width > 300"), **said)))
    parts = [select(plain, query(("a", "drop", "width > 300"), slice=f"{part}/3", **said)) for part in range(3)]
    assert sorted(number for part in parts for number in numbers(part)) == whole and all(
        0 < len(part) < len(whole) for part in parts
    )
    before = select(plain, query(("a", "drop", "width > 300"), **said)).counts
    for part in parts:
        check_sum(part, ALL)
        assert all(part.counts[name] == before[name] for name in ("a", "cap.ai")), (
            "it drops nothing that was out before"
        )


# caps -----------------------------------------------------------------------------------------------------------------


def test_a_cap_is_exact_and_the_most_that_it_can_be():
    rng = np.random.default_rng(0)
    for _ in range(300):
        counts = dict(zip("abcd", rng.integers(0, 60, 4).tolist(), strict=True))
        caps = {kind: Fraction(int(rng.integers(1, 100)), 100) for kind in "abc"[: rng.integers(1, 4)]}
        stay = allowed(counts, caps)
        total = sum((counts | stay).values())
        assert all(number <= caps[kind] * total and number <= counts[kind] for kind, number in stay.items())
        if len(caps) == 1:  # one more would be too many
            ((kind, number),) = stay.items()
            assert number == counts[kind] or number + 1 > caps[kind] * (total + 1)
        else:  # all that could stay, found by trying
            kinds = list(caps)
            grid = np.stack(np.meshgrid(*[np.arange(counts[kind] + 1) for kind in kinds], indexing="ij"), -1).reshape(
                -1, len(kinds)
            )
            others = sum(number for kind, number in counts.items() if kind not in caps)
            fits = np.all(
                [
                    grid[:, i] * caps[k].denominator <= caps[k].numerator * (others + grid.sum(1))
                    for i, k in enumerate(kinds)
                ],
                0,
            )
            assert grid[fits].max(0).tolist() == [stay[kind] for kind in kinds]


def test_a_larger_cap_keeps_what_a_smaller_one_kept():
    uids = np.array([uid(number) for number in range(ALL)])
    before = np.zeros(ALL, bool)
    for count in range(0, ALL + 1, 16):
        now = chosen(uids, count, "ai")
        assert now.sum() == count and now[before].all()
        before = now
    assert not np.array_equal(chosen(uids, 50, "ai"), chosen(uids, 50, "unknown"))


@pytest.mark.parametrize("cap", ["0.1", "0.07", "0.2"])
def test_an_origin_has_at_most_its_share_of_what_is_in(plain: Path, cap: str):
    found = select(
        plain, query(("a", "drop", "width > 300"), provenance={"ai": {"cap": float(cap)}, "human": "forbid"})
    )
    origins = [ORIGINS[number % 5] for number in numbers(found)]
    ai, rest = origins.count("ai"), len(origins) - origins.count("ai")
    most = max(count for count in range(ALL) if count <= Fraction(cap) * (rest + count))
    assert (
        ai == min(most, sum(1 for number in range(201) if number % 5 == ORIGINS.index("ai"))) and "human" not in origins
    )
    check_sum(found, ALL)


# what people decided --------------------------------------------------------------------------------------------------


def decide(folder: Path, reviewer: str, new: str, *which: int, reason: str = "", kind: str = "review") -> None:
    DecisionLog(folder).append([Decision(sha(number), new, reason, kind=kind) for number in which], reviewer=reviewer)


def test_peoples_words_come_first_and_a_dispute_waits_outside(folder: Path):
    decide(folder, "ana", "reject", 1, 2, reason="ai")
    decide(folder, "ana", "keep", 3, 4)
    decide(folder, "ben", "keep", 2)
    decide(folder, "ben", "flag", 5)
    keeps = ("all", "keep", "true")
    assert sorted({*range(40)} - {*numbers(select(folder, query(keeps)))}) == [1, 2]
    found = select(folder, query(keeps))
    assert found.counts["people.disputed"]["dropped"] == found.counts["people.rejected"]["dropped"] == 1
    assert not select(folder, query()).is_trivial and "ana" in found.why(uid(1)) and "(ana: ai)" in found.why(uid(1))
    assert numbers(select(folder, query(decisions="reviewed"))) == [3, 4]
    assert len(select(folder, query(decisions="ignored"))) == 40
    assert numbers(select(folder, query(("r", "keep", "review = 'keep' or list_contains(reviewers, 'ben')"), ("no", "drop", "true"),
                                        decisions="ignored"))) == [2, 3, 4, 5]  # fmt: skip


def test_an_origin_that_people_state_is_the_origin(folder: Path):
    drawn = ORIGINS.index("ai")
    decide(folder, "ana", "human", drawn, kind="origin")
    decide(folder, "ana", "ai", ORIGINS.index("human"), kind="origin")
    found = select(folder, query(provenance={"ai": "forbid"}))
    inside = numbers(found)
    assert drawn in inside and ORIGINS.index("human") not in inside
    told = {each.uid: each for each in select(folder, query()).posts()}
    assert told[uid(drawn)].origin == "human"
    assert told[uid(ORIGINS.index("human"))].evidence == ("certain ai reviewer ana",)


# groups and scores ----------------------------------------------------------------------------------------------------


def test_one_file_of_each_drawing_the_best_that_is_in(folder: Path):
    with pytest.raises(DataError, match="dedup"):
        select(folder, query(groups="best"))
    put_groups(
        folder, ("duplicate", [3, 4, 5]), ("duplicate", [10, 11]), ("duplicate", [20, 21, 22]), ("variant", [3, 10, 30])
    )
    found = select(folder, query(groups="best"))
    assert sorted({*range(40)} - {*numbers(found)}) == [4, 5, 11, 21, 22]
    assert len(select(folder, query())) == 40
    found = select(folder, query(("best", "drop", "width in (103, 120)"), groups="best"))
    assert {5, 22} <= {*numbers(found)} and not {3, 4, 20, 21} & {*numbers(found)}, (
        "the largest of the others stands in"
    )
    check_sum(found, 40)
    put = query(
        ("g", "drop", "group_kind = 'duplicate' and group_best <> uid"), ("v", "drop", "variant_best is not null")
    )
    assert sorted({*range(40)} - {*numbers(select(folder, put))}) == [3, 4, 5, 10, 11, 21, 22, 30]


def test_a_drawing_that_was_rejected_does_not_come_back_as_another_file(folder: Path):
    put_groups(folder, ("duplicate", [3, 4, 5]), ("duplicate", [10, 11]))
    decide(folder, "ana", "reject", 3, reason="ai")
    decide(folder, "ana", "reject", 10, reason="watermark")
    found = select(folder, query(groups="best"))
    assert not {3, 4, 5, 10} & {*numbers(found)} and 11 in numbers(found)
    assert found.counts["copies.rejected"]["dropped"] == 2
    check_sum(found, 40)


def test_versions_and_copies_are_on_one_side(folder: Path):
    put_groups(folder, *[("variant", [number, number + 20]) for number in range(20)])
    for share in (0.2, 0.5):
        split = {each.uid: each.split for each in select(folder, query()).posts(val_share=share)}
        assert all(split[uid(number)] == split[uid(number + 20)] for number in range(20))
        assert {*split.values()} == {"train", "val"}
    assert {each.split for each in select(folder, query(splits="pictures")).posts(val_share=0.5)} == {"train"}


def test_scores_are_read_by_name_and_only_with_approval(folder: Path):
    put_scores(folder, "tagger", "blur's", {number: number / 40 for number in range(0, 40, 2)})
    approved = {"approved_by": {"who": "ana", "date": "2026-11-21", "looked_at": 9}}

    def scored(text: str) -> Query:
        return Query.from_config({"name": "q", "rules": [{"name": "blur", "drop": text, "why": "w"} | approved]})

    found = select(folder, scored("score('tagger', 'blur''s') >= 0.5"))
    assert sorted({*range(40)} - {*numbers(found)}) == list(range(20, 40, 2))
    assert "ana, 2026-11-21, who looked at 9" in found.why(uid(20)) and found.as_dict()["steps"][-2]["approved_by"]
    with pytest.raises(ConfigError, match="did you mean 'tagger'"):
        select(folder, scored("score('taggr', 'x') > 1"))
    with pytest.raises(ConfigError, match=r"did you mean 'blur's'"):
        select(folder, scored("score('tagger', 'blurs') > 1"))
    with pytest.raises(ConfigError, match="no scores"):
        select(folder, scored("score('../../tagger', 'x') > 1"))


# safety and the verb --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql", ["select * from read_csv('{f}')", "from '{f}'", "select * from read_text('{f}')", "attach '{f}.db'", "install httpfs",
            "copy (select 1) to '{f}.csv'", "set enable_external_access = true", "set allowed_directories = ['/']",
            "pragma database_list; select * from glob('{f}*')", "load httpfs"],
)  # fmt: skip
def test_even_our_own_sql_reaches_no_other_file(plain: Path, tmp_path: Path, sql: str):
    (tmp_path / "secret").write_text("a,b\n1,2\n")
    with View(plain) as view, pytest.raises(ConfigError):
        view.run(sql.format(f=tmp_path / "secret"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["secret"]


@pytest.mark.parametrize(
    "text", ["width", "tags", "path > 3 and width like 3", "path::int > 3", "created_at::date < 'x'::date"]
)
def test_a_condition_that_cannot_be_run_is_told_with_its_reason(plain: Path, text: str):
    with pytest.raises(ConfigError, match=r"condition|query"):
        select(plain, query(("bad", "drop", text)))


def test_a_catalogue_of_before_is_read_with_nothing_in_its_new_columns(tmp_path: Path):
    import pyarrow.parquet as pq

    catalogue(tmp_path, [post(number) for number in range(9)])
    table = pq.read_table(tmp_path / "catalogue.parquet")
    pq.write_table(table.drop_columns(["licence", "evidence", "generation", "parent"]), tmp_path / "catalogue.parquet")
    found = select(tmp_path, query(("l", "drop", "licence = 'x' or len(evidence) > 0 or generation > 1")))
    assert numbers(found) == list(range(9)) and len(list(found.posts())) == 9


def test_the_verb_prints_every_step_and_the_sum(folder: Path, capsys: pytest.CaptureFixture[str]):
    before = {path: path.read_bytes() for path in folder.rglob("*")}
    words = [
        f"set={folder.parent}",
        "curate.rules=[{name: small, drop: 'width < 110', why: too small}]",
        "curate.provenance.ai_assisted=allow",  # what a generator made is out by itself
    ]
    filter_verb.run(words)
    told = capsys.readouterr().out
    for word in ("people.rejected", "people.disputed", "origin.ai", "small", "width < 110", "too small", "rest"):
        assert word in told
    assert "40 pictures = 24 in + 16 out" in told
    filter_verb.run(words, json=True)
    facts = json.loads(capsys.readouterr().out)
    assert (
        facts["total"] == 40 == sum(step["dropped"] + step["kept"] for step in facts["steps"]) and facts["kept"] == 24
    )
    filter_verb.run(words, why="pictures/0000.png")
    assert "out: small" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in folder.rglob("*")} == before

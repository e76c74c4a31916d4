"""What a query may say: conditions of a picture alone, rules with reasons, scores with approval, others included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from animeflow.app.compose import compose
from animeflow.app.curation import curation
from animeflow.core.errors import ConfigError
from animeflow.curate.expression import parse
from animeflow.curate.query import COLUMNS, Query

APPROVED = {"who": "ana", "date": "2026-11-21", "looked_at": 200}


def rule(name: str = "r", **said: Any) -> dict[str, Any]:
    return {"name": name, "why": "a reason"} | said


def query(*rules: dict[str, Any], **said: Any) -> Query:
    return Query.from_config({"name": "q", "version": 1, "rules": list(rules)} | said)


GOOD = [
    ("width * height < 65536", {"width", "height"}),
    ("least(width, height) < 256 or format = 'GIF'", {"width", "height", "format"}),
    ("list_contains(tags.general, 'solo') and not list_contains(tags.meta, 'lowres')", {"tags"}),
    ("len(list_filter(tags.general, lambda x: x like '%hair')) > 2", {"tags"}),
    ("tags['character'] && ['a', 'b']", {"tags"}),
    ("review = 'keep' and group_kind is null", {"review", "group_kind"}),
    ("created_at < '2010' -- a remark", {"created_at"}),
    ("case when width > 3 then rating in ('explicit') else false end", {"width", "rating"}),
    ("posts.WIDTH between 1 and 2", {"width"}),
]


@pytest.mark.parametrize("text, columns", GOOD)
def test_a_condition_tells_what_it_looks_at(text: str, columns: set[str]):
    assert parse(text, known=COLUMNS, where="here").columns == columns


HOSTILE = [
    "(select count(*) from read_csv('/etc/passwd')) > 0", "exists (from '/etc/passwd')", "read_text('/etc/passwd') is null",
    "1) from read_csv('/etc/passwd'); drop table posts; select (1", "1) as c from posts; copy posts to 'stolen.csv'; select (1",
    "1) as c from posts union select (1", "1) as c, (2", "1) as c from posts where (1", "true) as c from posts --",
    "attach 'x.db'; select 1", "pragma memory_limit='1GB'", "set enable_external_access = true", "copy posts to 'x.csv'",
    "install httpfs", "load httpfs", "glob('/etc/*') is not null", "getenv('HOME') = ''", "current_setting('temp_directory') = ''",
    "width in (select width from posts)", "count(*) over () > 1", "max(width) > 3", "row_number() over () < 5", "columns('.*') = 1",
    "* = 1", "width > ?", "width > $1", "uid = (from posts select uid limit 1)", "query('select 1') = 1",
    "query_table('posts') = 1",
    "", "   ", "width >",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_a_condition_reaches_nothing_but_its_picture(text: str):
    with pytest.raises(ConfigError):
        parse(text, known=COLUMNS, where="here")


@pytest.mark.parametrize(
    "text", ["random() < 0.5", "created_at < current_date", "now() > '2020'", "age(created_at::timestamp) > '1y'", "uuid() = ''",
             "hash(uid) % 2 = 0", "nextval('x') = 1", "today() > '2020-01-01'"],
)  # fmt: skip
def test_a_condition_has_neither_clock_nor_dice(text: str):
    with pytest.raises(ConfigError):
        parse(text, known=COLUMNS, where="here")


@pytest.mark.parametrize(
    "text, hint",
    [
        ("widht > 3", "'width'"),
        ("tags.genral is null", "'general'"),
        ("lenght(path) > 3", "'length'"),
        ("reviw = 'keep'", "'review'"),
    ],
)
def test_a_slip_is_met_with_the_nearest_word(text: str, hint: str):
    with pytest.raises(ConfigError, match=f"did you mean {hint}"):
        parse(text, known=COLUMNS, where="here")


SCORED = [
    "score('tagger', 'blur') > 0.9",
    "score > 100",
    "SCORE ( 'a' , 'b''c' ) < 1",
    "1 < coalesce(score('a','b'), 0)",
]


@pytest.mark.parametrize("text", SCORED)
@pytest.mark.parametrize("action", ["drop", "keep"])
def test_no_rule_decides_by_a_score_that_nobody_approved(text: str, action: str):
    with pytest.raises(ConfigError, match="nobody approved") as told:
        query(rule(**{action: text}))
    assert told.value.why and "scores order" in told.value.why
    assert query(rule(**{action: text}, approved_by=APPROVED)).rules[0].approved_by


@pytest.mark.parametrize(
    "approval", [{}, APPROVED | {"looked_at": 0}, APPROVED | {"who": " "}, APPROVED | {"date": "soon"}, APPROVED | {"by": "x"},
                 {"who": "ana", "date": "2026-11-21"}, True, "ana", APPROVED | {"looked_at": True}],
)  # fmt: skip
def test_an_approval_says_who_when_and_after_how_many(approval: Any):
    with pytest.raises(ConfigError):
        query(rule(drop="score > 3", approved_by=approval))


@pytest.mark.parametrize(
    "text", ["score('a', path) > 1", "score('a') > 1", "score('a', 'b', 'c') > 1", "score(lower('A'), 'b') > 1",
             "len(list_filter(tags.general, lambda \"score:0\": true)) > 0 and \"score:0\" > 0.5"],
)  # fmt: skip
def test_a_score_cannot_be_asked_for_in_disguise(text: str):
    with pytest.raises(ConfigError):
        query(rule(drop=text))


@pytest.mark.parametrize(
    "said, hint",
    [({"grups": "best"}, "'groups'"), ({"groups": "bst"}, "'best'"), ({"decisions": "reviewd"}, "'reviewed'"),
     ({"provenance": {"humn": "allow"}}, "'human'"), ({"provenance": {"ai": "forbidd"}}, "'forbid'"),
     ({"rules": [rule(drop="width < 3", wy="x")]}, "'why'"), ({"provenance": {"ai": {"cp": 0.1}}}, "'cap'")],
)  # fmt: skip
def test_an_unknown_word_is_named_with_the_nearest_one(said: dict[str, Any], hint: str):
    with pytest.raises(ConfigError, match=f"did you mean {hint}"):
        query(**said)


@pytest.mark.parametrize(
    "said",
    [{"rules": [rule()]}, {"rules": [rule(drop="true", keep="true")]}, {"rules": [{"name": "x", "drop": "true"}]},
     {"rules": [rule(drop="true"), rule(drop="false")]}, {"rules": [rule(name="a b", drop="true")]}, {"rules": "drop"},
     {"version": 0}, {"version": "x"}, {"name": ""}, {"slice": "3/3"}, {"slice": "x"}, {"provenance": {"ai": {"cap": 1.0}}},
     {"provenance": {"ai": {"weight": 0}}}, {"provenance": {"ai": {}}}, {"provenance": {"own": {"cap": 0.1}}}, {"include": ["x"]}],
)  # fmt: skip
def test_what_a_query_cannot_be_is_refused(said: dict[str, Any]):
    with pytest.raises(ConfigError):
        query(**said)


def test_the_hash_is_of_all_that_decides():
    first = query(rule(drop="width < 3"))
    assert first.hash == query(rule(drop="width < 3")).hash
    others = [
        query(rule(drop="width < 4")), query(rule(keep="width < 3")), query(rule("s", drop="width < 3")), query(slice="0/2"),
        query(rule(drop="width < 3"), version=2), query(rule(drop="width < 3"), provenance={"ai": {"cap": 0.1}}),
        query(rule("a", drop="width < 3"), rule("b", drop="width < 9")),
        query(rule("b", drop="width < 9"), rule("a", drop="width < 3")),
    ]  # fmt: skip
    assert len({each.hash for each in [first, *others]}) == 1 + len(others)


def test_queries_are_made_of_others_rules_first_and_the_stricter_setting():
    known = {
        "base": {"name": "base", "version": 4, "rules": [rule("tiny", drop="width < 9")], "decisions": "reviewed",
                 "provenance": {"ai": "forbid", "unknown": {"cap": 0.2}}},
        "left": {"name": "left", "version": 2, "include": ["base"], "groups": "best", "rules": [rule("left", drop="false")]},
        "right": {"name": "right", "include": ["base"], "rules": [rule("right", drop="false")]},
    }  # fmt: skip
    node = {"name": "top", "include": ["left", "right"], "rules": [rule("own", drop="true")],
            "provenance": {"unknown": {"cap": 0.5, "weight": 0.5}}}  # fmt: skip
    made = Query.from_config(node, load=known.__getitem__)
    assert [each.name for each in made.rules] == ["tiny", "left", "right", "own"] and made.rules[0].of == "base 4"
    assert made.includes == {"base": 4, "left": 2, "right": 1}
    assert (made.groups, made.decisions) == ("best", "reviewed") and made.provenance["ai"].forbidden
    assert made.resolved()["provenance"]["unknown"] == {"weight": 0.5, "cap": 0.2} and made.weights() == {
        "unknown": 0.5
    }
    known["base"]["rules"] = [rule("own", drop="width < 3")]
    with pytest.raises(ConfigError, match="two rules are called 'own'"):
        Query.from_config(node, load=known.__getitem__)
    known["base"]["include"] = ["left"]
    with pytest.raises(ConfigError, match="includes itself"):
        Query.from_config(node, load=known.__getitem__)


def test_configs_of_the_project_are_queries_and_files_can_be_included(tmp_path: Path):
    config = compose([])
    assert curation(config).is_open
    assert {origin for origin, policy in curation(config).provenance.items() if policy.forbidden} == {
        "ai",
        "ai_assisted",
    }
    allowing = curation(compose(["curate.provenance.ai=allow"]))
    assert not allowing.is_open and allowing.asks_for_origins_alone
    careful = curation(compose(["curate=careful"]))
    assert careful.groups == "best" and careful.provenance["ai"].forbidden and not careful.is_open
    file = tmp_path / "mine.yaml"
    file.write_text(
        "defaults: [careful, _self_]\nname: mine\nversion: 3\nprovenance: {unknown: {cap: 0.5}}\n"
        "rules:\n  - {name: wide, drop: 'width > 9 * height', why: nothing is left of it after the crop}\n"
    )
    made = curation({"curate": config["curate"] | {"include": [str(file)]}})
    assert made.includes == {"mine": 3} and [each.name for each in made.rules] == ["wide"]
    assert made.groups == "best" and made.provenance["ai"].forbidden and made.provenance["unknown"].cap
    both = curation(compose([f"curate.include=[careful,{file}]", "curate.provenance.human={weight: 2}"]))
    assert set(both.includes) == {"careful", "mine"} and both.weights() == {}, "a weight is as strict as the smallest"
    with pytest.raises(ConfigError, match="did you mean 'careful'"):
        curation({"curate": config["curate"] | {"include": ["carefull"]}})

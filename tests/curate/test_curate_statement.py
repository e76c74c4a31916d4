"""The statement about a set is counted from its rows, and fails where what is required of them is missing."""

from __future__ import annotations

import pyarrow as pa
import pytest

from animeflow.catalogue.post import SCHEMA
from animeflow.core.errors import ConfigError, DataError
from animeflow.curate.statement import COLUMNS, Requirements, insist, statement

TEXT, TAG = "certain ai png_text ComfyUI", "declared ai_assisted tag ai-assisted"


def rows(*posts: dict[str, object]) -> pa.Table:
    plain = {"origin": "human", "source": "folder", "rating": "general"}
    names = [SCHEMA.field(name) for name in COLUMNS]
    return pa.Table.from_pylist([plain | post | {"uid": uid} for uid, post in enumerate(posts)], pa.schema(names))


POSTS = rows(
    {"origin": "ai", "evidence": [TEXT, TAG], "generator": "ComfyUI", "snapshot": "2026-02-01"},
    {"origin": "ai_assisted", "evidence": [TAG], "snapshot": "2026-02-28", "source": "danbooru"},
    {"origin": "unknown", "licence": "asked by mail"},
    {"licence": "CC0", "snapshot": "2026-01-31"},
    {"origin": "drawn_by_program", "licence": "CC0"},
)


def test_every_count_is_of_the_rows():
    found = statement(POSTS, {3, 4, 99})
    assert found.origins == {"ai": 1, "ai_assisted": 1, "drawn_by_program": 1, "human": 1, "unknown": 1}
    assert found.evidence == {"certain png_text": 1, "declared tag": 2} and found.claimed == 2
    assert found.sources == {"danbooru": 1, "folder": 4} and found.licences == {"": 2, "CC0": 2, "asked by mail": 1}
    assert found.generators == {"ComfyUI": 1} and found.reviewed == 2
    assert found.snapshot == ("2026-01-31", "2026-02-28") and found.missing == {"origin": 1}
    said = " ".join(found.sentences())
    assert "2 of 5 pictures are known to be synthetic, and 1 are of unknown origin" in said
    assert "2 pictures (40.0 %) were kept by a person" in said and "from 2026-01-31 to 2026-02-28" in said
    for counts in (found.origins, found.sources, found.licences, found.ratings):
        assert sum(counts.values()) == len(POSTS)


@pytest.mark.parametrize(
    ("require", "missing"),
    [
        ({}, {"origin": 1}),
        ({"origin": "certify"}, {"origin": 1}),
        ({"origin": True}, {"origin": 1}),
        ({"origin": False}, {}),
        ({"origin": False, "licence": True, "snapshot": True}, {"licence": 2, "snapshot": 2}),
        ({"origin": False, "reviewed": 0.4}, {}),
        ({"origin": False, "reviewed": 0.41}, {"reviewed": 1}),
        ({"origin": False, "reviewed": 1.0}, {"reviewed": 3}),
    ],
)
def test_what_is_required_is_missed_exactly(require: dict, missing: dict[str, int]):
    found = statement(POSTS, {3, 4}, require=Requirements(**require))
    assert found.missing == missing
    if not missing:
        insist(found)
        return
    with pytest.raises(DataError, match=f"{next(iter(missing.values()))} of 5 pictures") as caught:
        insist(found)
    assert caught.value.where and all(f"curate.require.{name}" in caught.value.where for name in missing)
    if "origin" in missing:
        assert "curate.require.origin=false" in str(caught.value) and "decide --origin" in str(caught.value)


def test_shards_are_cut_from_unknown_origins_unless_they_are_asked_for():
    asked = [(word, Requirements(origin=word).of_shards) for word in ("certify", False, True)]
    assert [bool(statement(POSTS, set(), require=require).missing) for _, require in asked] == [False, False, True]
    others = Requirements(licence=True, snapshot=True, reviewed=0.5).of_shards
    assert (others.licence, others.snapshot, others.reviewed) == (True, True, 0.5)


def test_what_is_asked_of_origins_is_one_of_three_words():
    for wrong, meant in (("certfy", "certify"), ("True", "true"), ("flase", "false")):
        with pytest.raises(ConfigError, match=f"did you mean '{meant}'"):
            Requirements(origin=wrong)


def test_an_empty_set_has_a_statement():
    found = statement(
        POSTS.slice(0, 0), set(), require=Requirements(origin=True, licence=True, snapshot=True, reviewed=1)
    )
    assert found.pictures == 0 and not found.missing and found.sentences()
    with pytest.raises(DataError, match="no picture"):
        insist(found)


def test_a_share_is_a_share():
    with pytest.raises(ConfigError, match="choose 0 to 1"):
        Requirements(reviewed=70)

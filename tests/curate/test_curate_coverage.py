"""Pictures per name: counted as a loop over the posts counts them, gaps named precisely, shares exact; and shards of a query."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from curate_rows import catalogue, post

from animeflow.app.compose import compose
from animeflow.app.verbs import coverage as coverage_verb
from animeflow.app.verbs.catalogue import collect
from animeflow.app.verbs.shard import cut
from animeflow.core.errors import ConfigError, DataError
from animeflow.curate.coverage import coverage, read_list
from animeflow.curate.query import Query
from animeflow.curate.selection import Selection, select
from animeflow.toonworld.dataset import write_dataset

PLANTED = {"ayla": 12, "bo": 5, "cai": 4, "dot": 1, "eva": 5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Characters with planted counts: picture n has every character with more than n."""
    folder = tmp_path_factory.mktemp("planted") / "catalogue"
    tags = [[name for name, count in PLANTED.items() if number < count] for number in range(12)]
    empty: dict[str, list[str]] = {"general": [], "copyright": [], "artist": [], "meta": []}
    drawn = [post(number, tags=empty | {"character": names}, origin="human") for number, names in enumerate(tags)]
    catalogue(folder, drawn)
    return folder


def chosen(folder: Path, drop: str | None = None) -> Selection:
    rules = [] if drop is None else [{"name": "r", "drop": drop, "why": "w"}]
    return select(folder, Query.from_config({"name": "q", "rules": rules}))


def test_the_counts_are_those_that_were_planted(folder: Path):
    found = coverage(chosen(folder), least=5)
    assert dict(found.counts) == PLANTED and list(found.counts) == ["ayla", "bo", "eva", "cai", "dot"]
    assert found.short == {"cai": 4, "dot": 1} and found.covered == 3
    assert sum(names for _, _, names in found.histogram()) == len(PLANTED)
    assert [names for _, _, names in found.histogram()][:2] == [4, 1]


@pytest.mark.parametrize("by", ["character", "general", "artist", "copyright", "meta"])
def test_the_counts_are_of_what_the_query_left_in(tmp_path: Path, by: str):
    catalogue(tmp_path, [post(number) for number in range(60)])
    selection = chosen(tmp_path, "width < 133 or rating = 'x'")
    told = Counter(name for each in selection.posts() for name in each.tags[by])
    assert coverage(selection, by=by, least=1).counts == told and len(selection) == 27


def test_what_exists_elsewhere_is_covered_to_an_exact_share(folder: Path, tmp_path: Path):
    (tmp_path / "popular.csv").write_text('ayla,4,800,"a,b"\nbo,4,100,\nsky,0,9999,\ncai,4,60,\nnobody,4,40,\n')
    against = read_list(tmp_path / "popular.csv", by="character")
    assert against == {"ayla": 800, "bo": 100, "cai": 60, "nobody": 40}
    found = coverage(chosen(folder), least=5, against=against)
    assert found.short == {"cai": 4, "nobody": 0} and found.covered == 2
    assert list(found.shares().values()) == [0.5, 0.75, 0.9]
    assert list(read_list(tmp_path / "popular.csv", by="character", top=2)) == ["ayla", "bo"]


def test_lists_of_two_columns_with_and_without_a_header(tmp_path: Path):
    file = tmp_path / "list.csv"
    for head in ("name,count\n", "", "\n"):
        file.write_text(head + "Hatsune Miku,9\nbo,11\n")
        assert list(read_list(file, by="character").items()) == [("bo", 11), ("hatsune_miku", 9)]
    for wrong in ("", "name,count\n", "bo\n", "bo,many\nay,1\nbo,x\n"):
        file.write_text(wrong)
        with pytest.raises(DataError):
            read_list(file, by="character")
    with pytest.raises(DataError):
        read_list(tmp_path / "none.csv", by="character")


def test_the_verb_lists_the_short_ones_and_nothing_else(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    words = [f"set={folder.parent}"]
    coverage_verb.run(words, least=5)
    told = capsys.readouterr().out
    assert "3 of 5 names have 5 pictures or more" in told and "<- enough from 5 on" in told
    listed = [line.split()[0] for line in told.splitlines() if line.startswith("  ") and line.split()[0] in PLANTED]
    assert listed == ["cai", "dot"]
    (tmp_path / "popular.csv").write_text("ayla,800\nnobody,200\n")
    coverage_verb.run(words, least=5, against=str(tmp_path / "popular.csv"), json=True)
    facts = json.loads(capsys.readouterr().out)
    assert (
        facts["against"]["names with enough"] == 0.5 and facts["short"] == {"nobody": 0} and facts["counts"] == PLANTED
    )
    with pytest.raises(ConfigError, match="did you mean 'character'"):
        coverage_verb.run(words, by="caracter")


def test_shards_hold_what_the_query_left_in_and_say_so_only_where_it_asks_for_something(tmp_path: Path):
    write_dataset(tmp_path / "drawn", count=6, sizes=[(64, 64)], seed=0)
    words = [
        "experiment=pictures_tiny",
        f"catalogue.root={tmp_path / 'drawn'}",
        f"set={tmp_path / 'set'}",
        "data.shard.workers=0",
    ]
    config = compose([*words, "catalogue.workers=0", "data.shard.max_upscale=50", "data.shard.min_side=0"])
    collect(config)
    open_ = cut(config)
    assert open_.found == 6 and "curate" not in open_.config
    before = {path: path.read_bytes() for path in (tmp_path / "set/shards").rglob("*") if path.is_file()}
    rule = {"name": "none", "drop": "width < 3", "why": "w"}
    asked = cut(config | {"curate": config["curate"] | {"rules": [rule]}})
    assert asked.samples == open_.samples and asked.config["curate"]["counts"] == {"rest": {"dropped": 0, "kept": 6}}
    part = cut(config | {"curate": config["curate"] | {"name": "half", "slice": "0/2"}})
    counts = part.config["curate"]["counts"]
    assert (
        part.found == counts["rest"]["kept"] == 6 - counts["slice"]["dropped"] < 6
        and part.config["curate"]["name"] == "half"
    )
    cut(config)
    assert {path: path.read_bytes() for path in (tmp_path / "set/shards").rglob("*") if path.is_file()} == before

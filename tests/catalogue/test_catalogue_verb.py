"""What a config says reaches the reading of pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from animeflow.app.compose import compose
from animeflow.app.verbs.catalogue import collect
from animeflow.core.errors import ConfigError
from animeflow.image.encode import encode_png
from animeflow.text.blocklist import Blocklist


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(3):
        picture = np.random.default_rng(number).integers(0, 256, (24, 20, 3), dtype=np.uint8)
        (folder / f"{number}.png").write_bytes(encode_png(picture))
        (folder / f"{number}.txt").write_text(f"1girl, Tag {number}" + (", lolicon" if number == 2 else ""))
    return ["catalogue=folder", f"catalogue.root={folder}", f"set={tmp_path / 'set'}", "catalogue.workers=0"]


@pytest.mark.parametrize("source", ["folder", "danbooru", "gallery_dl", "toonworld"])
def test_every_source_has_the_list(source: str):
    needed = ["catalogue.root=x", "catalogue.posts=x"] if source == "danbooru" else ["catalogue.root=x"]
    assert compose([f"catalogue={source}", *needed])["catalogue"]["blocklist"] == []


def test_tags_of_the_config_are_refused_besides_the_built_in_ones(words: list[str], tmp_path: Path):
    assert collect(compose(words)).rejected == {"blocked": 1}
    report = collect(compose([*words, "catalogue.blocklist=[tag_1]"]))
    assert (report.known, report.rejected) == (1, {"blocked": 2})
    rows = map(json.loads, (tmp_path / "set/catalogue/rejected.jsonl").read_text().splitlines())
    assert {(row["reason"], row["detail"]) for row in rows} == {("blocked", "")}, "what was found is not shown"
    assert collect(compose(words)).added == 1


@pytest.mark.parametrize("value", ["[]", "null", "tag_1", "[2024]", "['']", "['---']", "{lolicon: false}"])
def test_nothing_a_config_says_shrinks_the_list(words: list[str], value: str):
    try:
        report = collect(compose([*words, f"catalogue.blocklist={value}"]))
    except ConfigError as error:
        assert value != "[]" and "blocklist" in str(error)
    else:
        assert value == "[]" and report.rejected["blocked"] == 1


def test_a_longer_list_blocks_what_the_shorter_one_did():
    default = Blocklist.default()
    longer = default.with_tags(["Some Tag"])
    assert len(longer) == len(default) + 1 and longer.blocked(["some_tag", "lolicon", "1girl"]) == {
        "some_tag",
        "lolicon",
    }
    assert len(Blocklist.default()) == len(default)

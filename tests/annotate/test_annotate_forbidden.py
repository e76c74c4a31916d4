"""A tagger that sees what is forbidden: the picture waits outside, without a word of which tag, until a person keeps it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from animeflow.annotate.forbidden import forbidden_by
from animeflow.annotate.merge import THRESHOLDS, MergePolicy, merged
from animeflow.app.compose import compose
from animeflow.app.machine_tags import WAITING, with_machine_tags
from animeflow.app.verbs.catalogue import collect
from animeflow.app.verbs.shard import cut
from animeflow.catalogue import beside
from animeflow.catalogue.table import Catalogue
from animeflow.curate.decisions import DecisionLog
from animeflow.curate.event import Decision
from animeflow.image.encode import encode_png
from animeflow.text.blocklist import Blocklist


def tell(folder: Path, tool: str, told: dict[int, dict[str, float]]) -> None:
    rows = [{"uid": u, "name": name, "score": score} for u, says in told.items() for name, score in says.items()]
    beside.put(folder / "scores" / f"{tool}.parquet", beside.SCORES, rows)


@pytest.mark.parametrize(
    ("said", "rating", "is_so"),
    [
        ({"general:loli": 0.36}, "unknown", True),
        ({"general:loli": 0.34}, "unknown", False),
        ({"general:lollipop": 0.99, "general:1girl": 0.99}, "explicit", False),
        ({"general:little_lolita_girl": 0.9, "general:lolicon": 0.9}, "unknown", True),
        ({"character:some_lolicon": 0.84}, "unknown", False),
        ({"general:child": 0.9}, "unknown", False),
        ({"general:child": 0.9}, "explicit", True),
        ({"general:child": 0.9, "rating:explicit": 0.6}, "unknown", True),
        ({"general:child": 0.9, "rating:explicit": 0.4}, "unknown", False),
        ({"general:child": 0.3, "rating:explicit": 0.9}, "unknown", False),
        ({"general:child": 0.9, "general:sex": 0.9}, "unknown", True),
        ({"tiled": 0.99, "loli": 0.99}, "unknown", False),  # a score of a screen is no tag
    ],
)
def test_what_counts(tmp_path: Path, said: dict[str, float], rating: str, is_so: bool):
    tell(tmp_path, "quiet", {5: {"general:1girl": 0.9}, 7: {"general:1girl": 0.9}})
    tell(tmp_path, "tool", {5: said, 7: {"general:sex": 0.99, "rating:explicit": 0.99}})
    found = forbidden_by(tmp_path, Blocklist.default(), THRESHOLDS, ratings={5: rating})
    assert found == ({5: "tool"} if is_so else {})


def test_no_tag_of_the_longer_list_comes_in():
    told, policy = {"one": {"general:thing": 0.9, "general:hat": 0.9, "general:loli": 0.9}}, MergePolicy(use=("one",))
    assert merged({}, told, policy)[0]["general"] == ["hat", "thing"]
    assert merged({}, told, policy, blocklist=Blocklist.default().with_tags(["Thing"]))[0]["general"] == ["hat"]


@pytest.fixture
def made(tmp_path: Path) -> tuple[list[str], Catalogue]:
    (tmp_path / "pictures").mkdir()
    for number in range(3):
        picture = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        (tmp_path / "pictures" / f"{number}.png").write_bytes(encode_png(picture))
        (tmp_path / "pictures" / f"{number}.txt").write_text("1girl")
    words = ["catalogue=folder", f"catalogue.root={tmp_path / 'pictures'}", f"set={tmp_path / 'set'}"]
    words += ["catalogue.workers=0", "data.shard.workers=0", "data/bucket=tiny", "data.shard.max_upscale=8"]
    collect(compose(words))
    return words, Catalogue(tmp_path / "set" / "catalogue")


def of(config: Any, catalogue: Catalogue) -> list[int]:
    return [int(Path(post.path).stem) for post in with_machine_tags(config, catalogue.posts())]


@pytest.mark.parametrize("use", [[], ["annotate.merge.use=[tool]"]])
@pytest.mark.parametrize("high", [[], ["annotate.merge.thresholds.general=1.0"]])
def test_it_waits_outside_until_a_person_keeps_it(
    made: tuple[list[str], Catalogue], caplog: pytest.LogCaptureFixture, use: list[str], high: list[str]
):
    words, catalogue = made
    posts = {int(Path(post.path).stem): post for post in catalogue.posts()}
    tell(catalogue.folder, "tool", {posts[0].uid: {"general:hat": 0.9}, posts[1].uid: {"general:shotacon": 0.5}})
    manifest = cut(compose([*words, *use, *high]))
    assert (manifest.found, manifest.written) == (2, 2)
    assert "blocked_by_tagger: 1 pictures" in caplog.text and "shotacon" not in caplog.text
    rows = [json.loads(line) for line in (catalogue.folder / WAITING).read_text().splitlines()]
    assert rows == [{"path": posts[1].path, "sha256": posts[1].sha256, "tagger": "tool"}]
    log = DecisionLog(catalogue.folder)
    log.append([Decision(posts[1].sha256, "reject")], reviewer="me")
    assert of(compose([*words, *use, *high]), catalogue) == [0, 2]
    log.append([Decision(posts[1].sha256, "keep")], reviewer="me")
    assert of(compose([*words, *use, *high]), catalogue) == [0, 1, 2]
    assert cut(compose([*words, *use, *high])).found == 3 and not (catalogue.folder / WAITING).read_text()


def test_tags_that_the_config_forbids_count_of_taggers_too(made: tuple[list[str], Catalogue]):
    words, catalogue = made
    first = catalogue.posts()[0]
    tell(catalogue.folder, "tool", {first.uid: {"general:some_tag": 0.9}})
    assert of(compose(words), catalogue) == [0, 1, 2]
    assert len(of(compose([*words, "catalogue.blocklist=[Some Tag]"]), catalogue)) == 2

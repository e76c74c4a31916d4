"""Captions of a set: labels from its own scores, words from a database, lengths that fit; each is a part of the cache's address."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from data_toys import PLAN, ToyCodec, ToyTower, make_posts

from animeflow.app.captioning import keep_bounds, with_bounds
from animeflow.core.errors import ConfigError, DataError
from animeflow.data.assemble import Assembler
from animeflow.data.cache import build_cache, diff
from animeflow.data.index import CacheIndex
from animeflow.data.place import place_of
from animeflow.data.reader import ShardSet
from animeflow.data.shard import write_shards
from animeflow.text.caption import CaptionPolicy
from animeflow.text.lexicon import Wordbook
from animeflow.text.quality import Bounds

PLAIN = CaptionPolicy(order=("quality", "general"), rating_words={}, size_tags=False)
SCORED = replace(PLAIN, quality="score", quality_smallest=10)


class Words:
    """One Japanese word per tag, of a database in its `edition`."""

    def __init__(self, edition: str) -> None:
        self.edition = edition

    def translations(self, name: str, language: str) -> list[str]:
        return [f"{self.edition}_{name}"] if name.startswith("hair") else []

    def aliases(self, name: str) -> list[str]:
        return []

    def implied(self, name: str) -> list[str]:
        return []

    def count(self, name: str) -> int | None:
        return None


class Set:
    """Thirty pictures of which all but five have a score."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.out = folder, folder / "cache" / "toy"
        posts = make_posts(folder / "pictures", 30)
        self.posts = [replace(post, score=n * n if n < 25 else None) for n, post in enumerate(posts)]

    def shards(self, count: int = 30) -> ShardSet:
        write_shards(self.posts[:count], PLAN, self.folder / "shards", root=self.folder / "pictures", max_samples=8)
        return ShardSet(self.folder / "shards")

    def build(self, policy: CaptionPolicy, **options):
        options = {"seed": 5, "variants": 3, "batch_size": 4} | options
        return build_cache(self.shards(), ToyCodec(), ToyTower(), policy, out=self.out, **options)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Set:
    return Set(tmp_path_factory.mktemp("set"))


def test_bounds_are_ranked_once_over_the_set_and_written_down(data: Set):
    shards = data.shards()
    found = with_bounds(SCORED, shards, place_of(data.folder))
    assert found.bounds is not None and found.bounds.posts == {"all": 25, "general": 25}
    file = keep_bounds(found, shards, data.folder)
    assert file is not None and json.loads(file.read_text())["identity"] == found.bounds.identity
    before = file.stat().st_mtime_ns
    again = with_bounds(SCORED, ShardSet(data.folder / "shards"), place_of(data.folder))
    assert again.facts() == found.facts() and keep_bounds(again, shards, data.folder) == file
    assert file.stat().st_mtime_ns == before
    kept = json.loads(file.read_text())
    file.write_text(json.dumps(kept | {"groups": {"all": {"masterpiece": None}}, "asked": kept["asked"]}))
    read = with_bounds(SCORED, shards, place_of(data.folder))
    assert read.bounds is not None and read.bounds.groups == {
        "all": {"masterpiece": None}
    }  # it is read, not ranked anew
    file.write_text(json.dumps(kept | {"asked": {}}))
    with pytest.raises(DataError, match="of another set"):
        with_bounds(SCORED, shards, place_of(data.folder))
    file.unlink()


def test_bounds_of_the_table_of_facts_are_those_of_the_posts(tmp_path: Path):
    ratings, days = ("general", "explicit", None), (None, "2019-05-01", "2020-01-02")
    posts = [
        replace(post, score=n % 7, rating=ratings[n % 3], created_at=days[n % 5 % 3])
        for n, post in enumerate(make_posts(tmp_path / "p", 24))
    ]
    write_shards(posts, PLAN, tmp_path / "shards", root=tmp_path / "p")
    shards, policy = ShardSet(tmp_path / "shards"), replace(SCORED, quality_smallest=3)
    found = with_bounds(policy, shards, place_of(tmp_path)).bounds
    ladders = (policy.quality_words, policy.quality_scores)
    assert found == Bounds.measure(map(shards.facts, shards.uids), ladders=ladders, smallest=3)
    assert {"general/2019", "explicit/2019", "unknown", "all"} <= {*found.groups}


def test_another_set_and_other_ladders_have_other_bounds(data: Set):
    all_ = with_bounds(SCORED, data.shards(), place_of(data.folder))
    fewer = with_bounds(SCORED, data.shards(20), place_of(data.folder))
    words = with_bounds(replace(SCORED, quality_words={"fine": 0.5}), data.shards(), place_of(data.folder))
    assert len({policy.bounds.identity for policy in (all_, fewer, words)}) == 3
    assert with_bounds(PLAIN, data.shards(), place_of(data.folder)) is PLAIN
    assert keep_bounds(PLAIN, data.shards(), data.folder) is None


def test_a_cache_holds_labels_and_says_by_which_bounds(data: Set):
    policy = with_bounds(SCORED, data.shards(), place_of(data.folder))
    plain, report = data.build(PLAIN), data.build(policy)
    assert report.hash != plain.hash and report.latents_encoded == 0
    index = CacheIndex(data.out)
    assert index.manifest["identity"]["policy"]["bounds"] == policy.bounds.identity
    seen: Counter[str] = Counter()
    for uid, texts in index.captions(index.uids).items():
        score = next(post.score for post in data.posts if post.uid == uid)
        labels = {
            word for text in texts for word in text.split(", ") if word.endswith("quality") or word == "masterpiece"
        }
        assert len(labels) == (score is not None)
        seen.update(labels)
    # Of 25 scores number k leaves (k + 1/2) / 25 behind, counted from 0: 0.95 from 24 on, 0.85 from 21 on, and so on.
    assert seen == {
        "masterpiece": 1,
        "best quality": 3,
        "good quality": 6,
        "normal quality": 8,
        "low quality": 5,
        "worst quality": 2,
    }


def test_the_words_of_a_database_are_in_the_address_and_its_other_edition_encodes_anew(data: Set):
    def policy(edition: str, translate: float = 1.0) -> CaptionPolicy:
        book = Wordbook(Words(edition), identity=edition)
        return replace(PLAIN, languages={"ja": 1.0}, translate=translate, wordbook=book)

    shards = data.shards()
    report = data.build(policy("a"))
    assert report.captions["languages"] == {"ja": 90}
    assert report.captions["tags"] == {"translated": 90} and report.captions["missing_translations"] == {"ja": 270}

    def missing(wanted: CaptionPolicy) -> int:
        return diff(shards, ToyCodec(), ToyTower(), wanted, out=data.out, seed=5, variants=3).texts_missing

    assert missing(policy("a")) == 0 < missing(policy("b"))
    assert data.build(policy("a")).hash == report.hash != data.build(policy("b")).hash
    assert data.build(policy("a", 0.0)).hash == data.build(policy("b", 0.0)).hash  # neither is asked


def test_captions_fit_the_encoder_that_is_named_and_none_is_cut(data: Set):
    long = replace(PLAIN, order=("count", "general"), separator=" and ")
    cut = data.build(long)
    assert cut.truncated["words"] > 0 and "tags" not in cut.captions
    report = data.build(replace(long, fit=("words",)))
    assert report.truncated["words"] == 0 and report.captions["tags"]["shortened"] > 0
    with pytest.raises(ConfigError, match="did you mean 'words'"):
        data.build(replace(long, fit=("word",)))


def test_live_captions_fit_too(data: Set):
    policy = replace(PLAIN, order=("count", "general"), separator=" and ", fit=("words",))
    data.build(policy)
    live = Assembler(CacheIndex(data.out), ToyTower(), seed=1, texts="live", shards=data.shards(), policy=policy)
    assert {len(live.caption(uid, visit).split()) for uid in data.shards().uids for visit in range(3)} <= set(range(10))
    whole = Assembler(
        CacheIndex(data.out), ToyTower(), seed=1, texts="live", shards=data.shards(), policy=replace(policy, fit=())
    )
    uid = data.shards().uids[0]
    assert whole.caption(uid, 0).startswith(live.caption(uid, 0)) and whole.caption(uid, 0) != live.caption(uid, 0)

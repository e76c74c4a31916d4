"""What a config asks of exposure reaches the batches, and the plan tells it before."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import pytest
from data_toys import PLAN, ToyCodec, ToyTower, make_posts

from animeflow.app import outlook
from animeflow.app.check import check_values
from animeflow.app.compose import compose
from animeflow.app.exposure import exposure
from animeflow.app.wiring import loader
from animeflow.core.errors import ConfigError
from animeflow.data.assemble import Assembler
from animeflow.data.cache import build_cache
from animeflow.data.index import CacheIndex
from animeflow.data.reader import ShardSet
from animeflow.data.shard import write_shards
from animeflow.text.policy import CaptionPolicy

MIXTURE = (
    "data.loader.exposure.mixture={drawn: {share: 3, where: {source: boorus}}, solid: {share: 1, where: {tags: '3d*'}}}"
)
LOSS = "data.loader.exposure.loss=[{where: {origin: ai}, weight: 0.25}]"


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """40 pictures, of which 4 are held out: 20 of boorus, 10 in 3d, 10 of neither; every fifth by a machine."""
    folder = tmp_path_factory.mktemp("set")
    posts = []
    for n, post in enumerate(make_posts(folder / "p", 40)):
        source, more = (("boorus", []), ("photos", ["3d_(medium)"]), ("boorus", []), ("photos", []))[n % 4]
        tags = {**post.tags, "general": [*post.tags["general"], *more]}
        posts.append(replace(post, source=source, tags=tags, origin="ai" if n % 5 == 0 else "human"))
    write_shards(posts, PLAN, folder / "shards", root=folder / "p")
    return folder


@pytest.fixture(scope="module")
def cached(home) -> Path:
    build_cache(
        ShardSet(home / "shards"),
        ToyCodec(),
        ToyTower(),
        CaptionPolicy(),
        out=home / "cache" / "sd35",
        seed=0,
        variants=1,
    )
    return home


def words(home: Path, *more: str) -> list[str]:
    load = ["data.loader.batch=4", "data.loader.micro_batch=2", "data.loader.threads=1"]
    return ["experiment=toonworld_smoke", f"set={home}", *load, *more]


@lru_cache
def composed(home: Path, *more: str):
    return compose(words(home, *more))


def steps(home: Path, *more: str, rank: int = 0, world: int = 1):
    assemble = Assembler(CacheIndex(home / "cache" / "sd35"), ToyTower(), seed=0)
    return loader(composed(home, *more), assemble, codec="codec-1", rank=rank, world=world, pin=False)


def facts_of(home: Path) -> dict[int, dict]:
    shards = ShardSet(home / "shards")
    return {uid: shards.facts(uid) for uid in shards.uids if shards.split_of(uid) == "train"}


def expected(facts: dict) -> str:
    if facts["source"] == "boorus":
        return "drawn"
    return "solid" if "3d_(medium)" in facts["tags"]["general"] else "others"


def test_the_plan_tells_components_and_bounds_before_there_is_a_cache(home):
    config = compose(words(home, MIXTURE, "train.images=360"))
    told = outlook.told(config, exposure(config))
    kinds = Counter(expected(facts) for facts in facts_of(home).values())
    assert list(told["how often"]) == ["component", "drawn", "solid", "others"]
    shared = kinds["drawn"] + kinds["solid"]
    for name, share in (("drawn", 0.75 * shared / 36), ("solid", 0.25 * shared / 36), ("others", kinds["others"] / 36)):
        pictures, asked, realised, *visits = told["how often"][name].split()
        assert int(pictures) == kinds[name] and float(asked[:-1]) == pytest.approx(100 * share, abs=0.006)
        assert float(realised[:-1]) == pytest.approx(100 * share, abs=4)
        assert visits[1] == "to" and int(visits[2]) - int(visits[0]) <= 1
    assert told["visits"].startswith("10.00 epochs of 36 images") and told["set"].startswith("36 pictures in")


def test_nothing_asked_is_told_as_it_always_was(home):
    told = exposure(compose(words(home)))
    assert told.lines == () and told.total == 40 and all(isinstance(count, int) for count in told.images.values())


@pytest.mark.parametrize(
    "word, says",
    [
        ("data.loader.exposure.mixtur={a: {share: 1, where: {source: boorus}}}", "did you mean 'mixture'"),
        ("data.loader.exposure.mixture={a: {share: 1, where: {sorce: boorus}}}", "did you mean 'source'"),
        ("data.loader.exposure.mixture={a: {share: 1, where: {source: bourus}}}", "did you mean 'boorus'"),
        ("data.loader.exposure.balance={by: charakter, alpha: 1}", "did you mean 'character'"),
        ("data.loader.exposure.cap=0", "whole number of 1 or above"),
        ("data.loader.exposur.cap=1", "did you mean 'data.loader.exposure"),
    ],
)
def test_a_wrong_name_is_told_by_the_plan(home, word, says):
    with pytest.raises(ConfigError, match=says):
        config = compose(words(home, word))
        check_values(config)  # what `plan` does first
        exposure(config)


def test_cache_and_shards_tell_alike(cached):
    told = [exposure(compose(words(cached, MIXTURE)))]
    (cached / "cache").rename(cached / "elsewhere")
    told.append(exposure(compose(words(cached, MIXTURE))))
    (cached / "elsewhere").rename(cached / "cache")
    assert told[0].lines == told[1].lines and told[0].images == told[1].images
    assert told[0].source != told[1].source and told[0].captions


def test_batches_say_what_their_pictures_are_and_come_as_often_as_asked(cached):
    facts, seen = facts_of(cached), Counter()
    for number, step in enumerate(steps(cached, MIXTURE, LOSS)):
        for batch in step:
            assert batch.names == ("drawn", "solid", "others")
            assert [batch.names[i] for i in batch.components] == [expected(facts[uid]) for uid in batch.uids]
            assert batch.weights.tolist() == [0.25 if facts[uid]["origin"] == "ai" else 1 for uid in batch.uids]
            seen.update(expected(facts[uid]) for uid in batch.uids)
        if number == 89:
            break
    assert seen.total() == 360 and seen["drawn"] / seen["solid"] == pytest.approx(3, rel=0.06)
    plain = next(iter(steps(cached)))[0]
    assert plain.weights is None and plain.components is None and plain.names == ()


def test_a_resume_and_two_processes_see_the_same(cached):
    def seen(stop: int, count: int, **process) -> list:
        first = steps(cached, MIXTURE, **process)
        for number, _ in enumerate(first):
            if number + 1 == stop:
                break
        second = steps(cached, MIXTURE, **process)
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        found = []
        for step in second:
            found.append(sorted((uid, visit) for b in step for uid, visit in zip(b.uids, b.visits, strict=True)))
            if len(found) == count:
                return found
        raise AssertionError

    late = seen(13, 10)
    assert late == seen(3, 20)[10:]
    halves = [seen(13, 10, rank=rank, world=2) for rank in range(2)]
    assert [sorted(a + b) for a, b in zip(*halves, strict=True)] == late


def test_what_is_asked_of_sources_alone_needs_no_shards(cached):
    assert steps(cached, MIXTURE)
    (cached / "shards").rename(cached / "away")
    try:
        word = "data.loader.exposure.weights=[{where: {source: boorus}, exposure: 0.5}]"
        batch = next(iter(steps(cached, word)))[0]
        assert batch.weights is None
        with pytest.raises(ConfigError, match="the shards know it"):
            steps(cached, MIXTURE)
    finally:
        (cached / "away").rename(cached / "shards")


def test_the_weight_of_an_origin_in_the_provenance_is_its_exposure(cached):
    word = "curate.provenance.ai={weight: 0.25}"
    (line,) = exposure(compose(words(cached, word))).lines
    assert (line.least, line.most) == (0, 1)
    facts = facts_of(cached)
    machine = sum(each["origin"] == "ai" for each in facts.values())
    assert exposure(compose(words(cached, word))).total == pytest.approx(len(facts) - 0.75 * machine)

"""Repeats are exact in every epoch of every bucket, and a plan without them is the plan that it was."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from data_toys import PLAN, ToyCodec, ToyTower, make_posts
from hypothesis import given, settings
from hypothesis import strategies as st
from test_data_plan import SIZES, buckets

from animeflow.core.errors import ConfigError, DataError
from animeflow.data.cache import build_cache
from animeflow.data.index import CacheIndex, part_path
from animeflow.data.plan import Plan
from animeflow.data.reader import ShardSet
from animeflow.data.repeats import repeats_of
from animeflow.data.shard import write_shards
from animeflow.text.policy import CaptionPolicy

TIMES = dict.fromkeys(range(0, 53, 5), 3) | {1004: 2, 1007: 5, 3001: 4}


def order(repeats=TIMES, sizes=SIZES, **options) -> Plan:
    return Plan(buckets(sizes), **{"seed": 3, "batch": 8, "repeats": repeats} | options)


def rows(plan: Plan, steps: int) -> dict[str, list[tuple[int, int]]]:
    """What every bucket showed, in order: (uid, visit)."""
    shown: dict[str, list[tuple[int, int]]] = {}
    for _ in range(steps):
        for chunk in plan.next_step():
            shown.setdefault(chunk.bucket, []).extend(zip(chunk.uids, chunk.visits, strict=True))
    return shown


counts = st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=12), min_size=1, max_size=4)


@given(counts, st.sampled_from([(1, 1), (4, 2), (6, 3), (12, 1)]), st.integers(0, 40), st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_every_epoch_shows_every_picture_exactly_as_often_as_was_said(times, cut, stop, seed):
    named = {f"b{i}": len(part) for i, part in enumerate(times)}
    wanted = {i * 1000 + n: number for i, part in enumerate(times) for n, number in enumerate(part)}
    make = {"sizes": named, "seed": seed, "batch": cut[0], "chunks_per_step": cut[1]}
    plan = order(wanted, **make)
    shown = rows(plan, stop)
    again = order(wanted, **make)
    again.load_state_dict(json.loads(json.dumps(plan.state_dict())))
    for name, more in rows(again, 60 - stop if stop < 60 else 1).items():
        shown.setdefault(name, []).extend(more)
    for i, (name, part) in enumerate(zip(named, times, strict=True)):
        epoch, row, seen = sum(part), shown.get(name, []), Counter()
        for uid, visit in row:
            assert visit == seen[uid]  # numbered on, over epochs and resumes
            seen[uid] += 1
        for start in range(0, len(row) - epoch + 1, epoch):
            held = Counter(uid for uid, _ in row[start : start + epoch])
            assert held == {i * 1000 + n: number for n, number in enumerate(part)}


def test_the_repeats_of_a_picture_are_spread_over_the_epoch():
    size = 600
    plan = order(dict.fromkeys(range(200), 3), {"64x64": size}, batch=10)
    row = [uid for uid, _ in rows(plan, 100)["64x64"]]  # one epoch: 200 x 3 + 400
    assert len(plan) == 1000
    thirds = [Counter(uid for uid in row[start:end]) for start, end in ((0, 333), (333, 667), (667, 1000))]
    near = [sum(part[uid] == 1 for uid in range(200)) for part in thirds]
    assert min(near) > 180  # a draw at random would have about 89
    places = {uid: np.flatnonzero(np.array(row) == uid) for uid in range(200)}
    assert sum(int(np.diff(p).min()) < 10 for p in places.values()) <= 1, (
        "twice in ten is rare; at random it would be 11"
    )
    assert len({int(p[0]) for p in places.values()}) > 150, "and not in rows"


def test_buckets_get_the_share_of_their_exposures():
    plan, used = order(), Counter()
    epoch = plan.sizes
    assert epoch == {"64x64": 53 + 2 * 11, "48x80": 17 + 1 + 4, "80x48": 9, "32x96": 3 + 3}
    for step in range(1, 400):
        for chunk in plan.next_step():
            used[chunk.bucket] += len(chunk)
        for name, size in epoch.items():
            assert abs(used[name] - step * 8 * size / sum(epoch.values())) <= 2 * 8


def test_once_is_nothing_said():
    """Bit for bit: the order, and the place that a saved run is at."""
    for same in (None, {}, dict.fromkeys(range(53), 1)):
        plain, plan = Plan(buckets(SIZES), seed=3, batch=8), order(same)
        for _ in range(80):
            assert plan.next_step() == plain.next_step()
        assert plan.state_dict() == plain.state_dict()


def test_other_repeats_are_another_order():
    saved = order().state_dict()
    for other in (None, {**TIMES, 0: 2}):
        with pytest.raises(ConfigError, match="another order"):
            order(other).load_state_dict(saved)
    with pytest.raises(ConfigError, match="another order"):
        order().load_state_dict(order(None).state_dict())


def test_concepts_give_pictures_their_repeats():
    concepts = {1: "eileen", 2: "ink", 3: "eileen", 4: ""}
    assert repeats_of(concepts, {"eileen": 3, "ink": 1}) == {1: 3, 3: 3}
    assert repeats_of(concepts, {}) == {}
    with pytest.raises(ConfigError, match="eileen"):
        repeats_of(concepts, {"eilen": 2})
    for number in (0, -1, 0.5, 2.0, True, "2"):
        with pytest.raises(ConfigError, match="positive whole number"):
            repeats_of(concepts, {"ink": number})


def test_the_cache_knows_the_concept_of_every_picture(tmp_path):
    posts = [replace(p, source=("eileen", "ink")[i % 2]) for i, p in enumerate(make_posts(tmp_path / "p", 12))]
    write_shards(posts, PLAN, tmp_path / "shards", root=tmp_path / "p")
    out = tmp_path / "cache"
    for variants in (0, 2):
        report = build_cache(
            ShardSet(tmp_path / "shards"), ToyCodec(), ToyTower(), CaptionPolicy(), out=out, seed=0, variants=variants
        )
        index = CacheIndex(out)
        assert index.concepts(None) == {post.uid: post.source for post in posts}
        assert set(index.concepts()) == {post.uid for post in posts if post.split == "train"}
    part = part_path(out, report.hash, 0, 1)
    pq.write_table(pq.read_table(part).drop_columns("concept"), part)  # as it was before there were concepts
    old = CacheIndex(out)
    assert old.buckets("train")
    with pytest.raises(DataError, match="which concept"):
        old.concepts()

"""The order of data is a pure function: conserving, fair, resumable, and blind to the number of processes."""

from __future__ import annotations

import json
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from animeflow.core.errors import ConfigError
from animeflow.data.plan import Plan, accumulation

SIZES = {"64x64": 53, "48x80": 17, "80x48": 9, "32x96": 3}


def buckets(sizes: dict[str, int]) -> dict[str, list[int]]:
    return {name: [i * 1000 + n for n in range(count)] for i, (name, count) in enumerate(sizes.items())}


def plan(sizes: dict[str, int] = SIZES, *, seed: int = 3, batch: int = 8, chunks_per_step: int = 1) -> Plan:
    return Plan(buckets(sizes), seed=seed, batch=batch, chunks_per_step=chunks_per_step)


def test_visits_follow_one_another_and_never_differ_by_more_than_one_inside_a_bucket():
    order, seen = plan(), Counter()
    for _ in range(200):
        for chunk in order.next_step():
            assert len(chunk) == 8
            for uid, visit in zip(chunk.uids, chunk.visits):
                assert visit == seen[uid], "a visit is how often the picture came before"
                seen[uid] += 1
            counts = [seen[uid] for uid in buckets(SIZES)[chunk.bucket]]
            assert max(counts) - min(counts) <= 1
    assert sum(seen.values()) == 1600 == order.images_seen


def test_every_epoch_of_a_bucket_holds_each_picture_once():
    order, rows = plan(), {name: [] for name in SIZES}
    for _ in range(300):
        for chunk in order.next_step():
            rows[chunk.bucket] += chunk.uids
    for name, row in rows.items():
        for start in range(0, len(row) - SIZES[name], SIZES[name]):
            assert sorted(row[start : start + SIZES[name]]) == buckets(SIZES)[name]
    whole = rows["64x64"]
    assert whole[:53] != whole[53:106], "epochs are shuffled anew"


def test_buckets_get_their_share_at_all_times():
    order, used = plan(), Counter()
    for step in range(1, 400):
        for chunk in order.next_step():
            used[chunk.bucket] += len(chunk)
        for name, size in SIZES.items():
            assert abs(used[name] - step * 8 * size / sum(SIZES.values())) <= 2 * 8


@pytest.mark.parametrize("stop", [0, 1, 7, 40, 123])
def test_a_resume_through_json_goes_on_with_the_same_steps(stop: int):
    whole = plan(chunks_per_step=2)
    steps = [whole.next_step() for _ in range(150)]
    first = plan(chunks_per_step=2)
    for _ in range(stop):
        first.next_step()
    second = plan(chunks_per_step=2)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert [second.next_step() for _ in range(150 - stop)] == steps[stop:]


@pytest.mark.parametrize("world, micro", [(1, 8), (1, 4), (2, 4), (2, 2), (4, 2), (8, 1)])
def test_processes_and_accumulation_share_the_same_images(world: int, micro: int):
    whole, mine = plan(), plan()
    for _ in range(30):
        (chunk,) = whole.next_step()
        (same,) = mine.next_step()
        parts = [list(same.part(rank, world, micro)) for rank in range(world)]
        assert {len(part) for part in parts} == {accumulation(8, world=world, micro_batch=micro)}
        pairs = [p for part in parts for piece in part for p in zip(piece.uids, piece.visits)]
        assert sorted(pairs) == sorted(zip(chunk.uids, chunk.visits))
        assert all(len(piece) == micro and piece.bucket == chunk.bucket for part in parts for piece in part)


def test_the_order_of_the_uids_given_does_not_matter():
    shuffled = {name: random.Random(1).sample(uids, len(uids)) for name, uids in reversed(buckets(SIZES).items())}
    other = Plan(shuffled, seed=3, batch=8)
    mine = plan()
    assert [mine.next_step() for _ in range(50)] == [other.next_step() for _ in range(50)]


def test_another_seed_is_another_order():
    assert [plan().next_step() for _ in range(3)] != [plan(seed=4).next_step() for _ in range(3)]


def test_the_order_is_the_same_under_every_numpy():
    """A change of this number is a change of every run: raise VERSION with it."""
    order = plan()
    assert [chunk.uids[0] for _ in range(6) for chunk in order.next_step()] == FIRST


FIRST = [24, 1002, 2004, 46, 41, 3001]


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=5),
    st.sampled_from([(1, 1), (4, 1), (4, 2), (6, 3), (12, 1)]),
    st.integers(0, 30),
    st.integers(0, 2**31),
)
@settings(max_examples=60, deadline=None)
def test_the_ledger_holds_for_any_buckets_and_any_resume(sizes: list[int], cut: tuple[int, int], stop: int, seed: int):
    named, (batch, chunks) = {f"b{i}": n for i, n in enumerate(sizes)}, cut
    order, ledger = plan(named, seed=seed, batch=batch, chunks_per_step=chunks), Counter()
    for step in range(60):
        if step == stop:
            state = order.state_dict()
            order = plan(named, seed=seed, batch=batch, chunks_per_step=chunks)
            order.load_state_dict(state)
        for chunk in order.next_step():
            for uid, visit in zip(chunk.uids, chunk.visits):
                assert visit == ledger[uid]
                ledger[uid] += 1
    for uids in buckets(named).values():
        counts = [ledger[uid] for uid in uids]
        assert max(counts) - min(counts) <= 1
    assert sum(ledger.values()) == 60 * batch


def test_an_impossible_world_names_the_legal_ones():
    with pytest.raises(ConfigError, match=r"with 3 processes use a micro-batch of .*none.*use 1 or 2 processes"):
        accumulation(8, world=3, micro_batch=4)
    with pytest.raises(ConfigError, match=r"with 2 processes use a micro-batch of 1 or 2 or 4"):
        accumulation(8, world=2, micro_batch=3)
    with pytest.raises(ConfigError, match="equal chunks"):
        plan(batch=8, chunks_per_step=3)


def test_a_place_in_another_order_is_refused():
    state = plan().state_dict()
    for other in (plan(seed=4), plan(batch=16), plan({**SIZES, "64x64": 54})):
        with pytest.raises(ConfigError, match="another order"):
            other.load_state_dict(state)


def test_an_empty_set_is_an_error():
    with pytest.raises(ConfigError, match="no image"):
        Plan({"64x64": []}, seed=0, batch=1)

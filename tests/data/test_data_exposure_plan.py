"""A plan shows every picture as often as its turns say: through any resume, in any order of the pictures, in every epoch."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_data_plan import SIZES, buckets

from animeflow.core.errors import ConfigError
from animeflow.data.plan import Plan
from animeflow.data.turns import Turns

UIDS = np.array(sorted(uid for uids in buckets(SIZES).values() for uid in uids))
TIMES = np.random.default_rng(4).choice([0.25, 0.7, 1.0, 1.37, 3.2], len(UIDS))


def turns(times=TIMES, seed=3, kinds=None) -> Turns:
    return Turns.of(UIDS, np.asarray(times, dtype=np.float64), kinds, seed=seed)


def order(made: Turns | None = None, **options) -> Plan:
    return Plan(buckets(SIZES), **{"seed": 3, "batch": 8, "turns": made or turns()} | options)


def rows(plan: Plan, steps: int) -> dict[str, list[tuple[int, int]]]:
    shown: dict[str, list[tuple[int, int]]] = {}
    for _ in range(steps):
        for chunk in plan.next_step():
            shown.setdefault(chunk.bucket, []).extend(zip(chunk.uids, chunk.visits, strict=True))
    return shown


times_lists = st.lists(st.lists(st.floats(0, 4.5), min_size=1, max_size=8), min_size=1, max_size=3)


@given(times_lists, st.integers(0, 30), st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_every_epoch_shows_floor_or_ceil_and_all_of_them_what_is_due(times, stop, seed):
    wanted = {i * 1000 + n: e for i, part in enumerate(times) for n, e in enumerate(part)}
    if max(wanted.values()) < 0.01:
        return
    uids = np.array(sorted(wanted))
    made = Turns.of(uids, np.array([wanted[uid] for uid in uids.tolist()]), seed=seed)
    named = {f"b{i}": [i * 1000 + n for n in range(len(part))] for i, part in enumerate(times)}
    plan = Plan(named, seed=seed, batch=4, turns=made)
    shown = rows(plan, stop)
    again = Plan({n: u[::-1] for n, u in reversed(named.items())}, seed=seed, batch=4, turns=made)
    again.load_state_dict(json.loads(json.dumps(plan.state_dict())))
    for name, more in rows(again, 60 - stop).items():
        shown.setdefault(name, []).extend(more)
    assert shown == rows(Plan(named, seed=seed, batch=4, turns=made), 60), "resume = no interruption"
    for name, row in shown.items():
        seen: Counter[int] = Counter()
        for uid, visit in row:
            assert visit == seen[uid]
            seen[uid] += 1
        part, start = made.select(named[name]), 0
        for epoch in range(200):
            visits = part.visits(epoch)
            end = start + int(visits.sum())
            if end > len(row):
                break
            held = Counter(uid for uid, _ in row[start:end])
            assert [held[uid] for uid in part.uids.tolist()] == visits.tolist()
            due = part.steps / 2**32
            assert (visits >= np.floor(due)).all() and (visits <= np.ceil(due)).all()
            assert np.abs(part.before(epoch + 1) - (epoch + 1) * due).max() < 1
            start = end


def test_an_epoch_is_as_long_as_is_expected_and_buckets_get_their_share():
    plan, used = order(), Counter()
    length = {name: TIMES[np.isin(UIDS, uids)].sum() for name, uids in buckets(SIZES).items()}
    assert len(plan) == round(TIMES.sum()) and plan.sizes == {name: round(e) for name, e in sorted(length.items())}
    for step in range(1, 400):
        for chunk in plan.next_step():
            used[chunk.bucket] += len(chunk)
        for name, size in length.items():
            assert abs(used[name] - step * 8 * size / TIMES.sum()) <= 2 * 8


def test_what_is_seen_over_ten_epochs_is_within_two_percent_and_a_kind_within_one_in_each():
    """Ten epochs of the plan itself, not of the turns."""
    uids, rng = np.arange(2000), np.random.default_rng(0)
    kinds = rng.integers(0, 2, 2000)
    times = np.where(kinds == 0, 1.31, 0.42)
    plan = Plan(
        {"a": uids[:1200].tolist(), "b": uids[1200:].tolist()},
        seed=0,
        batch=10,
        turns=Turns.of(uids, times, kinds, seed=0),
    )
    seen = np.zeros(2000)
    for epoch in range(1, 11):
        while plan.images_seen < epoch * times.sum():
            for chunk in plan.next_step():
                np.add.at(seen, np.array(chunk.uids), 1)
        ratio = seen[kinds == 0].sum() / seen[kinds == 1].sum()
        assert ratio == pytest.approx(
            times[kinds == 0].sum() / times[kinds == 1].sum(), rel=0.02 if epoch < 3 else 0.01
        )
    for kind in (0, 1):
        assert seen[kinds == kind].mean() == pytest.approx(10 * times[kinds == kind][0], rel=0.02)


def test_phases_are_even_so_that_a_kind_does_not_vary_from_epoch_to_epoch():
    uids, kinds = np.arange(4000), np.arange(4000) % 3
    times = np.choose(kinds, [0.3, 1.61803, 0.07])
    made = Turns.of(uids, times, kinds, seed=9)
    worst = dict.fromkeys(range(3), 0.0)
    for epoch in range(40):
        visits = made.visits(epoch)
        for kind in worst:
            mine = kinds == kind
            worst[kind] = max(worst[kind], abs(visits[mine].sum() - times[mine].sum()))
    assert max(worst.values()) < 12, "of 1333 drawn at random about three times 17 would be missed by"
    few = np.abs(made.visits(0)[kinds == 0][:100].sum() - 30)
    assert few < 25, "and in any part of a kind they come as if drawn"
    assert (made.phases != Turns.of(uids, times, kinds, seed=10).phases).any()


def test_whole_turns_are_repeats_bit_for_bit():
    times = np.random.default_rng(1).integers(1, 4, len(UIDS))
    same = Plan(buckets(SIZES), seed=3, batch=8, repeats=dict(zip(UIDS.tolist(), times.tolist(), strict=True)))
    plan = order(turns(times))
    for _ in range(100):
        assert plan.next_step() == same.next_step()
    assert plan.state_dict() == same.state_dict()
    plain, once = Plan(buckets(SIZES), seed=3, batch=8), order(turns(np.ones(len(UIDS))))
    for _ in range(50):
        assert plain.next_step() == once.next_step()
    assert plain.state_dict() == once.state_dict()


def test_a_picture_of_no_exposure_never_comes_and_an_empty_bucket_goes():
    times = np.where(UIDS < 1000, 0.0, 0.5)
    plan = order(turns(times))
    assert set(rows(plan, 100)) == set(list(SIZES)[1:]) == set(plan.sizes)
    with pytest.raises(ConfigError, match="no image"):
        order(turns(np.zeros(len(UIDS))))


def test_a_rare_picture_alone_in_its_bucket_waits_for_its_turn():
    """Epochs in which its bucket shows nothing are passed over."""
    made = Turns.of(np.array([1, 2, 3]), np.array([1.0, 1.0, 0.01]), seed=0)
    plan = Plan({"a": [1, 2], "b": [3]}, seed=0, batch=1, turns=made)
    seen = Counter(chunk.uids[0] for _ in range(2010) for chunk in plan.next_step())
    assert seen[3] in (9, 10, 11) and abs(seen[1] - seen[2]) <= 1


def test_a_place_among_other_turns_is_refused():
    saved = order().state_dict()
    for other in (turns(np.where(UIDS == 5, 2.5, TIMES)), turns(np.ones(len(UIDS))), turns(TIMES, kinds=UIDS % 2)):
        with pytest.raises(ConfigError, match="another order"):
            order(other).load_state_dict(saved)


def test_the_turns_are_the_same_under_every_numpy():
    """A change of these numbers is a change of every run with exposures."""
    made = Turns.of(np.arange(6), np.array([0.5, 0.5, 0.5, 1.25, 1.25, 0.1]), seed=3)
    assert made.phases.tolist() == PHASES
    assert [made.visits(epoch).tolist() for epoch in range(4)] == VISITS


PHASES = [1553133236, 539228994, 3193664763, 2567037478, 4207569005, 2179760521]
VISITS = [[0, 0, 1, 1, 2, 0], [1, 1, 0, 2, 1, 0], [0, 0, 1, 1, 1, 0], [1, 1, 0, 1, 1, 0]]

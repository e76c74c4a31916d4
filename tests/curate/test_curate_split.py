"""What belongs together is on one side of the split, and the share is kept."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from animeflow.catalogue.split import split_of
from animeflow.curate.split import together

ties = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=40)


def table(pairs) -> pa.Table:
    uids, groups = [a for a, _ in pairs], [b for _, b in pairs]
    return pa.table({"uid": pa.array(uids, pa.int64()), "group": pa.array(groups, pa.int64())})


def families(uids, pairs) -> list[set[int]]:
    """By walking, one by one."""
    near: dict[int, set[int]] = {uid: {uid} for uid in uids}
    for a, b in pairs:
        near.setdefault(a, {a}).add(b)
        near.setdefault(b, {b}).add(a)
    found, done = [], set()
    for start in near:
        todo, family = [start], set()
        while todo:
            uid = todo.pop()
            if uid not in family:
                family.add(uid)
                todo += near[uid]
        if not family & done:
            found.append(family)
        done |= family
    return found


@given(st.sets(st.integers(0, 40), min_size=1), ties, st.floats(0, 1), st.randoms())
@settings(max_examples=100, deadline=None)
def test_nothing_leaks_through_any_chain_of_groups(uids, pairs, share, rng):
    said = together(uids, table(pairs), val_share=share)
    assert said.keys() == uids
    for family in families(uids, pairs):
        assert len({said[uid] for uid in family & uids}) <= 1
        assert {said[uid] for uid in family & uids} <= {split_of(min(family), share)}
    shuffled = rng.sample(sorted(uids), len(uids))
    swapped = [(b, a) if rng.random() < 0.5 else (a, b) for a, b in rng.sample(pairs, len(pairs))]
    assert together(shuffled, table(swapped), val_share=share) == said


def test_a_long_chain_is_one_family():
    order = random.Random(2).sample(range(3000), 3000)
    assert len(set(together(order, table(list(pairwise(order))), val_share=0.5).values())) == 1


def test_a_picture_of_no_group_is_where_it_always_was_and_the_share_is_kept():
    rng = np.random.default_rng(0)
    uids = np.unique(rng.integers(0, 2**62, 20_000))
    sizes = rng.integers(1, 5, len(uids))
    owner = np.repeat(np.arange(len(sizes)), sizes)[: len(uids)]
    pairs = [(uid, int(uids[owner == o][0])) for o in range(2000) for uid in uids[owner == o].tolist()]
    said = together(uids.tolist(), table(pairs), val_share=0.1)
    alone = set(uids.tolist()) - {uid for uid, _ in pairs}
    assert all(said[uid] == split_of(uid, 0.1) for uid in alone)
    assert abs(sum(split == "val" for split in said.values()) / len(said) - 0.1) < 5 * np.sqrt(0.09 * 2.5 / len(said))


def test_what_a_filter_leaves_out_still_holds_its_family_together():
    """1 and 3 are versions of 2, which is not in the set."""
    for first in range(0, 300, 3):
        pairs = [(first, first + 1), (first + 2, first + 1)]
        said = together([first, first + 2], table(pairs), val_share=0.5)
        assert said[first] == said[first + 2]
        later = together([first + 2], table(pairs), val_share=0.5)
        assert later[first + 2] == said[first + 2]


def test_a_family_that_grows_stays_where_it_was():
    pairs = [(10 * n + 1, 10 * n + 2) for n in range(200)]
    before = together([uid for pair in pairs for uid in pair], table(pairs), val_share=0.3)
    grown = [*pairs, *((10 * n, 10 * n + 1) for n in range(200))]  # each gets a member of a smaller uid
    uids = [uid for n in range(200) for uid in range(10 * n, 10 * n + 3)]
    anew, after = (together(uids, table(grown), val_share=0.3, earlier=e) for e in (None, before))
    assert all(after[uid] == split for uid, split in before.items())
    assert after != anew, "without a memory some would have moved"
    assert all(len({after[10 * n + i] for i in range(3)}) == 1 for n in range(200))


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_what_was_trained_on_is_never_held_out_when_two_families_turn_out_to_be_one(order):
    earlier = {uid: {1: "train", 2: "val"}[uid] for uid in order}
    assert together([1, 2], table([(1, 2)]), val_share=1.0, earlier=earlier) == {1: "train", 2: "train"}

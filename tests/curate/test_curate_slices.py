"""Parts of a set share no picture and miss none, and training on one after the other shows no picture twice."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from animeflow.catalogue.split import split_of
from animeflow.core.errors import ConfigError
from animeflow.curate.slices import in_slice, read_slice, slices
from animeflow.data.plan import Plan

uids = st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=60, unique=True)


@given(uids, st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_every_picture_is_in_exactly_one_part_whatever_else_there_is(uids, of):
    parts = slices(np.array(uids), of)
    for uid, part in zip(uids, parts.tolist(), strict=True):
        assert [in_slice(uid, i, of) for i in range(of)] == [i == part for i in range(of)]
    assert (slices(np.array(uids), 2 * of) // 2 == parts).all(), "parts of parts"


def test_parts_are_of_one_size_and_know_nothing_of_the_validation_split():
    many = np.arange(60_000)  # neighbours, as no uids are: they are the hard case
    counts = np.bincount(slices(many, 3), minlength=3)
    assert abs(counts - 20_000).max() < 5 * np.sqrt(20_000 * 2 / 3)
    held = np.array([split_of(uid, 0.5) == "val" for uid in range(20_000)])
    shares = [held[slices(many[:20_000], 3) == part].mean() for part in range(3)]
    assert np.abs(np.array(shares) - 0.5).max() < 5 * 0.5 / np.sqrt(6_600)


def test_the_parts_of_a_picture_are_a_promise():
    """A change of these numbers would show pictures twice to everybody who goes on with the next third."""
    assert slices(np.array([0, 1, 2**62, 0x1234567890ABCDEF, 2**63 - 1]), 1000).tolist() == PARTS


PARTS = [959, 736, 761, 702, 404]


def test_a_third_after_the_other_shows_every_picture_once():
    rng = np.random.default_rng(1)
    whole = {"64x64": rng.integers(0, 2**62, 331).tolist(), "48x80": rng.integers(0, 2**62, 122).tolist()}
    seen: Counter[int] = Counter()
    for part in range(3):
        third = {name: [uid for uid in uids if in_slice(uid, part, 3)] for name, uids in whole.items()}
        plan, left = Plan(third, seed=0, batch=1), sum(map(len, third.values()))
        for _ in range(left):
            for chunk in plan.next_step():
                seen.update(uid for uid, visit in zip(chunk.uids, chunk.visits, strict=True) if visit == 0)
                assert max(chunk.visits) <= 1, "a bucket may be one chunk ahead of the epoch, no more"
        missing = [uid for uids in third.values() for uid in uids if not seen[uid]]
        assert len(missing) <= len(third), "and the other one that chunk behind"
        seen.update(missing)
    assert seen == dict.fromkeys([uid for uids in whole.values() for uid in uids], 1)


def test_the_place_in_one_third_is_not_that_in_another():
    thirds = [{"64x64": [uid for uid in range(100) if in_slice(uid, part, 3)]} for part in range(2)]
    with pytest.raises(ConfigError, match="another order"):
        Plan(thirds[1], seed=0, batch=4).load_state_dict(Plan(thirds[0], seed=0, batch=4).state_dict())


def test_words_for_parts():
    assert read_slice("0/3") == (0, 3)
    assert read_slice(" 2 / 3 ") == (2, 3)
    for word in ("3/3", "1", "a/3", "-1/3", "1/0"):
        with pytest.raises(ConfigError, match=r"curate.slice"):
            read_slice(word)
    for part, of in ((3, 3), (-1, 3)):
        with pytest.raises(ConfigError, match="no part"):
            in_slice(5, part, of)
    with pytest.raises(ConfigError, match="parts"):
        slices(np.array([1]), 0)

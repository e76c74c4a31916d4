"""The ledger counts every visit once, and finds the pictures whose loss is not like the others'."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq

from animeflow.core import seed as keyed
from animeflow.data.ledger import BINS, Ledger
from animeflow.data.manifest import key
from animeflow.data.plan import Plan

UIDS = np.array(sorted(keyed.key("ledger", i) for i in range(60)))


def visits(steps: int, *, wrong: int | None = None, seed: int = 0):
    """Steps of 20 pictures; the loss depends on t, and of one picture it is three times as high."""
    draw = np.random.default_rng(seed)
    for _ in range(steps):
        uids = draw.choice(UIDS, 20, replace=False)
        t = draw.random(20)
        loss = (0.1 + (1 - t) ** 2) * np.exp(0.2 * draw.standard_normal(20))
        yield uids, np.where(uids == wrong, 3 * loss, loss), t


def test_the_picture_that_does_not_fit_comes_first():
    ledger, wrong = Ledger(), int(UIDS[17])
    for step in visits(200, wrong=wrong):
        ledger.add(*step)
    table = ledger.table().to_pydict()
    assert table["uid"][0] == key(wrong)
    others = table["z"][1:]
    assert table["z"][0] > 3 > 3 * max(others) > 0
    assert abs(np.mean(others)) < 0.1, "of all others z is about 0, at whatever t they were seen"


def test_visits_are_conserved():
    ledger, count = Ledger(), dict.fromkeys(UIDS.tolist(), 0)
    for uids, loss, t in visits(30):
        ledger.add(uids, loss, t)
        for uid in uids.tolist():
            count[uid] += 1
    assert dict(zip(ledger.uids.tolist(), ledger.seen.tolist(), strict=True)) == {u: n for u, n in count.items() if n}
    assert ledger.counts.sum() == ledger.seen.sum() == 600


def test_every_picture_of_uneven_buckets_is_seen_three_times_in_three_epochs_however_often_it_is_interrupted():
    buckets = {"a": list(range(24)), "b": list(range(100, 112)), "c": list(range(200, 236))}  # 72 pictures
    plan, ledger = Plan(buckets, seed=1, batch=12), Ledger()
    for step in range(3 * 72 // 12):
        if step % 5 == 2:  # interrupted: a new plan and a new ledger from what was saved
            place, saved = plan.state_dict(), ledger.state_dict()
            plan, ledger = Plan(buckets, seed=1, batch=12), Ledger()
            plan.load_state_dict(place)
            ledger.load_state_dict(saved)
        for chunk in plan.next_step():
            ledger.add(np.array(chunk.uids), np.ones(len(chunk)), np.full(len(chunk), 0.5))
    assert ledger.seen.tolist() == [3] * 72


def test_a_loss_that_is_no_number_is_counted_and_left_out():
    ledger = Ledger()
    ledger.add(UIDS[:4], np.array([0.5, np.nan, np.inf, 0.5]), np.full(4, 0.5))
    assert ledger.bad.tolist() == [0, 1, 1, 0]
    assert ledger.seen.tolist() == [1, 1, 1, 1]
    assert ledger.counts.sum() == 2
    assert np.isfinite(ledger.scores).all()
    assert ledger.table()["z"].null_count == 2


def test_a_saved_ledger_goes_on_bit_for_bit(tmp_path):
    whole, steps = Ledger(), list(visits(60))
    half = Ledger()
    for i, step in enumerate(steps):
        if i == 30:
            again = Ledger()
            again.load_state_dict(half.state_dict())
            half = again
        whole.add(*step)
        half.add(*step)
    for name, tensor in whole.state_dict().items():
        assert np.array_equal(tensor.numpy(), half.state_dict()[name].numpy()), name
    whole.write(tmp_path / "ledger.parquet")
    columns = {"uid", "times_seen", "z", "not_finite", *(f"z_t{i}" for i in range(BINS))}
    assert set(pq.read_table(tmp_path / "ledger.parquet").column_names) == columns

"""Wild steps are found, quiet ones are not, and what is decided depends on the sums alone."""

from __future__ import annotations

import pytest
import torch

from animeflow.train.guard import GOOD, NONFINITE, SPIKE, WARM, Guard
from animeflow.train.settings import Guard as Settings
from animeflow.train.totals import BINS, Later, Totals

CPU = torch.device("cpu")


def totals(loss_B, t_B, norm=1.0, *, wishes=()) -> Totals:
    losses = [(torch.as_tensor(loss_B), torch.as_tensor(t_B))]
    return Totals.of(losses, norm=torch.as_tensor(norm), wishes=wishes, sum_up=lambda v: v)


def mean_loss(t_B: torch.Tensor) -> torch.Tensor:
    """Loss as training has it: four times higher at one end than at the other."""
    return 0.2 + 0.6 * (1 - t_B)


def course(guard: Guard, *, steps: int, noise: float = 0.03, seed: int = 0, wild: dict[int, float] | None = None):
    """Kinds of the verdicts over a run in which step `k` of `wild` has its loss times that factor."""
    draw = torch.Generator().manual_seed(seed)
    kinds = []
    for step in range(steps):
        t_B = torch.rand(16, generator=draw)
        loss_B = mean_loss(t_B) * torch.exp(noise * torch.randn(16, generator=draw)) * (wild or {}).get(step, 1.0)
        norm = torch.exp(0.05 * torch.randn((), generator=draw))
        kinds.append(int(guard.judge(totals(loss_B, t_B, norm)).report[0]))
    return kinds


def test_sums_are_what_a_loop_over_images_gives():
    generator = torch.Generator().manual_seed(0)
    loss_B, t_B = torch.rand(40, generator=generator), torch.rand(40, generator=generator)
    loss_B[[3, 17]] = torch.tensor([float("nan"), float("inf")])
    t_B[5] = 1.0  # belongs to the last bin
    whole = totals(loss_B, t_B, wishes={"stop"})
    for b in range(BINS):
        mine = [i for i in range(40) if min(int(t_B[i].double() * BINS), BINS - 1) == b]
        good = [i for i in mine if torch.isfinite(loss_B[i])]
        assert float(whole.sums[0, b]) == pytest.approx(sum(float(loss_B[i]) for i in good))
        assert whole.sums[1:, b].tolist() == [len(good), len(mine) - len(good)]
    assert float(whole.nonfinite) == 2
    assert whole.wishes() == {"stop"}


def test_a_quiet_run_raises_no_alarm_and_a_wild_step_raises_one():
    wild = {100: 1.5, 200: 3.0, 300: 10.0}
    kinds = course(Guard(Settings(spike="skip"), CPU), steps=400, wild=wild)
    assert {step for step, kind in enumerate(kinds) if kind == SPIKE} == set(wild)


def test_steps_of_unlike_timesteps_are_no_spikes_though_their_losses_differ_threefold():
    guard, draw = Guard(Settings(spike="skip"), CPU), torch.Generator().manual_seed(1)
    for step in range(300):
        low = 0.0 if step % 7 == 0 else 0.7  # now and then a step of small t, whose loss is higher
        t_B = low + 0.3 * torch.rand(16, generator=draw)
        loss_B = mean_loss(t_B) * torch.exp(0.03 * torch.randn(16, generator=draw))
        assert int(guard.judge(totals(loss_B, t_B, torch.tensor(1.0))).report[0]) == GOOD


def test_noise_of_a_fifth_raises_no_alarm_in_a_young_run_either():
    """Small steps of few images, as the demo has them: their mean losses scatter by a tenth and fall all the while."""
    for seed in range(5):
        guard, draw, kinds = Guard(Settings(spike="log"), CPU), torch.Generator().manual_seed(seed), []
        for step in range(300):
            t_B = torch.rand(16, generator=draw)
            fall = 1.3 + 0.7 * 0.97**step
            loss_B = fall * mean_loss(t_B) * torch.exp(0.4 * torch.randn(16, generator=draw))
            norm = 0.3 * torch.exp(0.2 * torch.randn((), generator=draw))
            kinds.append(int(guard.judge(totals(loss_B, t_B, norm)).report[0]))
        assert kinds.count(SPIKE) <= 1, seed


def test_the_first_steps_are_no_spikes_whatever_they_are():
    assert set(course(Guard(Settings(spike="skip"), CPU), steps=WARM, wild={5: 100.0, 20: 50.0})) == {GOOD}


def test_a_run_that_has_changed_for_good_is_accepted_in_time():
    kinds = course(Guard(Settings(spike="log", window=64), CPU), steps=600, wild=dict.fromkeys(range(100, 600), 2.0))
    assert kinds[100] == SPIKE
    assert set(kinds[400:]) == {GOOD}


@pytest.mark.parametrize("policy", ["off", "log", "skip", "rollback"])
@pytest.mark.parametrize("what", ["loss", "norm"])
def test_no_number_is_skipped_under_every_policy(policy, what):
    guard = Guard(Settings(spike=policy), CPU)
    course(guard, steps=50)
    loss_B = torch.tensor([0.5, float("nan") if what == "loss" else 0.5])
    norm = torch.tensor(float("inf") if what == "norm" else 1.0)
    verdict = guard.judge(totals(loss_B, [0.5, 0.5], norm))
    assert (float(verdict.skip), int(verdict.report[0])) == (1.0, NONFINITE)
    assert set(course(guard, steps=50, seed=7)) == {GOOD}, "it has poisoned nothing"


@pytest.mark.parametrize(("policy", "skip"), [("off", 0.0), ("log", 0.0), ("skip", 1.0), ("rollback", 1.0)])
def test_a_spike_is_skipped_only_where_that_is_asked_for(policy, skip):
    guard = Guard(Settings(spike=policy), CPU)
    course(guard, steps=100)
    verdict = guard.judge(totals([5.0, 5.0], [0.5, 0.5], torch.tensor(1.0)))
    assert float(verdict.skip) == skip
    assert int(verdict.report[0]) == (GOOD if policy == "off" else SPIKE)


def test_a_steep_gradient_is_a_spike_too():
    guard = Guard(Settings(spike="log"), CPU)
    course(guard, steps=100)
    t_B = torch.full((16,), 0.5)
    assert int(guard.judge(totals(mean_loss(t_B), t_B, torch.tensor(20.0))).report[0]) == SPIKE


def test_a_guard_that_was_saved_judges_as_one_that_was_not():
    wild = {60: 1.3, 120: 1.12, 170: 2.0}
    whole = course(Guard(Settings(), CPU), steps=100, wild=wild)
    half = Guard(Settings(), CPU)
    course(half, steps=100, wild=wild)
    again = Guard(Settings(), CPU)
    again.load_state_dict(half.state_dict())
    for guard in (half, again):
        assert len(whole) == 100
        guard.tail = course(guard, steps=100, seed=3, wild={70: 1.2})
    assert half.tail == again.tail
    assert half.state_dict() == again.state_dict()


def test_what_is_read_later_comes_in_order_and_once():
    later: Later[int] = Later(lag=2)
    due = [note for step in range(5) for note, value in later.put(step, torch.tensor([float(step)])) if value == note]
    assert due == [0, 1, 2]
    assert [note for note, _ in later.drain()] == [3, 4]
    assert later.drain() == []

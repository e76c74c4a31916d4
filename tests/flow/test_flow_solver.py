"""Solvers on a Gaussian flow whose velocity and solution are known in closed form.

Data N(mean, s^2) gives x_t ~ N((1 - t) mean, var_t) with var_t = (1 - t)^2 s^2 + t^2, and the flow carries a sample along its
standard score, so noise z arrives at mean + s z.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from animeflow.core.errors import AnimeflowError, ConfigError
from animeflow.flow.runge_kutta import BOSH3, DOPRI5, EULER, HEUN, Tableau, advance, stages
from animeflow.flow.schedule import SCHEDULES, sigmas
from animeflow.flow.solution import VelocityField
from animeflow.flow.solver import T_MIN, solve

MEAN, STD = 0.3, 0.58


def gaussian_flow(std: float) -> VelocityField:
    def velocity(x: Tensor, t_B: Tensor) -> Tensor:
        t = t_B.to(x.dtype).reshape(-1, 1, 1, 1)
        variance = (1 - t) ** 2 * std**2 + t**2
        return -MEAN + (t - (1 - t) * std**2) / variance * (x - (1 - t) * MEAN)

    return velocity


gaussian_velocity = gaussian_flow(STD)


def noise(size: int = 4, seed: int = 0) -> Tensor:
    return torch.randn(size, 4, 6, 6, generator=torch.Generator().manual_seed(seed))


def integrated(velocity: VelocityField, method: Tableau, steps: int, x: Tensor, *, end: float) -> Tensor:
    """Equal steps from 1 to `end`. Steps of a power of two and float64 keep rounding far below the error of the method."""
    h_B = torch.full((len(x),), (1 - end) / steps, dtype=torch.float64)
    for i in range(steps):
        t_B = 1 - i * h_B
        slopes = stages(velocity, x, t_B, h_B, velocity(x, t_B), method, count=len(method.c))
        x = advance(x, h_B, slopes, method.b)
    return x


@pytest.mark.parametrize(
    ("method", "order", "steps"), [(EULER, 1, 128), (HEUN, 2, 32), (BOSH3, 3, 16), (DOPRI5, 5, 16)]
)
def test_error_falls_with_the_order(method, order, steps):
    # A wide target: towards a narrow one the leading error of dopri5 nearly cancels, and the next term hides the order.
    std, end, x = 1.5, 0.5, noise().double()
    exact = (1 - end) * MEAN + math.hypot((1 - end) * std, end) * x

    def error(n: int) -> float:
        return float((integrated(gaussian_flow(std), method, n, x, end=end) - exact).abs().max())

    assert math.log2(error(steps) / error(2 * steps)) == pytest.approx(order, abs=0.1)


@pytest.mark.parametrize("method", [EULER, HEUN, BOSH3, DOPRI5], ids=lambda method: method.name)
def test_solve_takes_the_steps_of_its_method(method):
    solution = solve(gaussian_velocity, noise(), torch.linspace(1, 0.25, 9), solver=method.name)
    torch.testing.assert_close(
        solution.x.double(), integrated(gaussian_velocity, method, 8, noise().double(), end=0.25), atol=2e-6, rtol=0
    )


@pytest.mark.parametrize("method", [BOSH3, DOPRI5], ids=lambda method: method.name)
def test_pairs_are_consistent_and_their_last_stage_opens_the_next_step(method):
    assert sum(method.b) == pytest.approx(1)
    assert sum(method.b_error) == pytest.approx(0, abs=1e-12)
    assert method.a[-1] == method.b[:-1]
    for a, c in zip(method.a, method.c, strict=True):
        assert sum(a) == pytest.approx(c)


@pytest.mark.parametrize(("solver", "stages"), [("euler", 1), ("heun", 2), ("bosh3", 3), ("dopri5", 6)])
def test_fixed_steps_cost_what_the_method_has(solver, stages):
    asked = []

    def counted(x, t_B):
        asked.append(t_B)
        return gaussian_velocity(x, t_B)

    solution = solve(counted, noise(2), sigmas(7, shift=3.0), solver=solver)
    expected = 7 * stages - (1 if solver == "heun" else 0)  # the last interval of heun is Euler's
    assert len(asked) == expected
    assert solution.nfe_B.tolist() == [expected] * 2
    assert all(t.dtype == torch.float32 for t in asked)
    assert min(float(t.min()) for t in asked) >= T_MIN


@pytest.mark.parametrize("solver", ["euler", "heun", "bosh3", "dopri5"])
@pytest.mark.parametrize("steps", [1, 5])
def test_the_true_velocity_of_a_pair_leads_back_to_the_data(solver, steps):
    x0, eps = torch.randn(2, 3, 4, 6, 6)
    solution = solve(lambda x, t_B: eps - x0, eps, sigmas(steps, shift=3.0), solver=solver)
    torch.testing.assert_close(solution.x, x0, atol=2e-6, rtol=0)
    if solver in ("bosh3", "dopri5"):
        torch.testing.assert_close(solve(lambda x, t_B: eps - x0, eps, solver=solver).x, x0, atol=2e-6, rtol=0)


@pytest.mark.parametrize("solver", ["bosh3", "dopri5"])
def test_adaptive_error_follows_the_tolerance(solver):
    x = noise()
    exact = MEAN + STD * x
    errors, costs = [], []
    for rtol, atol in ((10**-2.5, 10**-3.5), (1e-4, 1e-5), (1e-5, 1e-6)):
        solution = solve(gaussian_velocity, x, solver=solver, rtol=rtol, atol=atol)
        errors.append(float((solution.x - exact).square().mean().sqrt()))
        costs.append(int(solution.nfe_B.max()))
        assert errors[-1] < 12 * rtol
        assert not bool(solution.capped_B.any())
    assert errors[0] > errors[1] > errors[2]
    assert costs[0] < costs[1] <= costs[2] < 200
    assert costs[0] <= 40


def test_adaptive_cost_is_what_was_asked_of_the_model():
    calls = []

    def counted(x, t_B):
        calls.append(t_B)
        return gaussian_velocity(x, t_B)

    solution = solve(counted, noise(1), solver="dopri5")
    assert int(solution.nfe_B[0]) == len(calls)
    assert min(float(t.min()) for t in calls) >= T_MIN


def test_a_sample_does_not_depend_on_its_neighbours():
    """Rows 0 and 2 are hard (a large amplitude), row 1 easy: alone and together they take the same steps to the same bits."""
    x = noise(3) * torch.tensor([1.0, 0.01, 30.0]).reshape(3, 1, 1, 1)
    together = solve(gaussian_velocity, x, solver="bosh3")
    alone = [solve(gaussian_velocity, x[i : i + 1], solver="bosh3") for i in range(3)]
    assert torch.equal(together.x, torch.cat([one.x for one in alone]))
    assert together.nfe_B.tolist() == [int(one.nfe_B) for one in alone]
    assert len(set(together.nfe_B.tolist())) > 1


def test_a_hard_field_is_finished_by_euler_and_says_so():
    def stiff(x, t_B):
        return gaussian_velocity(x, t_B) + torch.sin(4000 * t_B).reshape(-1, 1, 1, 1)

    solution = solve(stiff, noise(2), solver="dopri5", max_nfe=60)
    assert solution.capped_B.tolist() == [True, True]
    assert int(solution.nfe_B.max()) <= 60 + 20
    assert bool(torch.isfinite(solution.x).all())


def test_a_model_that_leaves_the_numbers_is_an_error_with_its_time():
    def broken(x, t_B):
        return torch.where(t_B.reshape(-1, 1, 1, 1) < 0.5, torch.nan, gaussian_velocity(x, t_B))

    with pytest.raises(AnimeflowError, match="not finite"):
        solve(broken, noise(2), solver="bosh3")
    with pytest.raises(AnimeflowError, match="not finite"):
        solve(broken, noise(2), sigmas(10), solver="euler")


def test_progress_sees_every_step_and_the_denoised_estimate():
    x0, eps = torch.randn(2, 1, 4, 6, 6)
    seen = []
    solve(lambda x, t_B: eps - x0, eps, sigmas(5, shift=3.0), on_step=seen.append)
    assert [step.index for step in seen] == list(range(5))
    assert float(seen[0].t_B[0]) == 1.0
    for step in seen:
        torch.testing.assert_close(step.denoised_BChw, x0, atol=2e-6, rtol=0)
    solve(gaussian_velocity, eps, solver="bosh3", on_step=seen.append)
    assert seen[-1].total is None


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 4, 28])
def test_schedules_fall_from_one_to_exactly_zero(schedule, steps):
    times = sigmas(steps, shift=3.0, schedule=schedule)
    assert times.dtype == torch.float32
    assert len(times) == steps + 1
    assert float(times[0]) == 1.0
    assert float(times[-1]) == 0.0
    assert bool((times.diff() < 0).all())


def test_schedules_equal_the_published_numbers():
    torch.testing.assert_close(sigmas(4, shift=3.0), torch.tensor([1, 0.9, 0.75, 0.5, 0]))
    assert torch.equal(sigmas(4, shift=3.0, schedule="simple"), sigmas(4, shift=3.0))
    published = torch.tensor([1, 0.8577, 0.6022, 0.0089, 0])
    torch.testing.assert_close(sigmas(4, shift=3.0, schedule="normal"), published, atol=5e-5, rtol=0)


def test_simple_takes_the_entry_below_where_a_rounded_stride_falls_short():
    # 1000 / 38 rounds down, so 19 strides are 499.999... and ComfyUI takes entry 1000 - 499 where 1000 - 500 seems meant.
    assert float(sigmas(38, schedule="simple")[19]) == pytest.approx(0.501, abs=1e-6)
    assert float(sigmas(40, schedule="simple")[20]) == pytest.approx(0.5, abs=1e-6)


def test_a_wrong_setting_is_named():
    with pytest.raises(ConfigError, match="did you mean 'dopri5'"):
        solve(gaussian_velocity, noise(1), solver="dopri")
    with pytest.raises(ConfigError, match="needs a schedule"):
        solve(gaussian_velocity, noise(1), solver="heun")
    with pytest.raises(ConfigError, match="do not fall"):
        solve(gaussian_velocity, noise(1), torch.tensor([0.0, 1.0]))
    with pytest.raises(ConfigError, match="did you mean 'beta'"):
        sigmas(4, schedule="bta")
    with pytest.raises(ConfigError, match="steps"):
        sigmas(0)


@pytest.mark.parametrize("schedule", ["linear", "normal"])
def test_euler_equals_diffusers_on_the_same_sigmas(schedule):
    import numpy as np
    from diffusers import FlowMatchEulerDiscreteScheduler

    steps, shift = 20, 3.0
    theirs = FlowMatchEulerDiscreteScheduler(shift=shift)
    if schedule == "linear":
        theirs.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps))
    else:
        theirs.set_timesteps(steps)
    ours = sigmas(steps, shift=shift, schedule=schedule)
    torch.testing.assert_close(theirs.sigmas, ours, atol=2e-7, rtol=0)
    x = noise(2)
    for t in theirs.timesteps:
        x = theirs.step(gaussian_velocity(x, (t / 1000).expand(2)), t, x).prev_sample
    torch.testing.assert_close(solve(gaussian_velocity, noise(2), ours).x, x, atol=1e-5, rtol=0)

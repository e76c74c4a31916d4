"""Solvers with noise of their own, on a Gaussian flow and against a second reading of their formulas."""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch

from animeflow.core.errors import AnimeflowError, ConfigError
from animeflow.flow import stochastic
from animeflow.flow.schedule import first_sigma, sigmas
from animeflow.flow.solver import T_MIN, solve
from animeflow.flow.stochastic import STOCHASTIC, Weights, er_sde, integrate

MEAN, STD = 0.3, 0.58
NAMES = list(STOCHASTIC)


def slope(t: float) -> float:
    """The exact denoised estimate of data N(MEAN, STD^2) is MEAN + slope (x - (1 - t) MEAN)."""
    return (1 - t) * STD**2 / ((1 - t) ** 2 * STD**2 + t**2)


def velocity(x, t_B):
    t = t_B.to(x.dtype).reshape(-1, *([1] * (x.ndim - 1)))
    variance = (1 - t) ** 2 * STD**2 + t**2
    return -MEAN + (t - (1 - t) * STD**2) / variance * (x - (1 - t) * MEAN)


def normal(*shape: int, seed: int = 0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def times_of(name: str, steps: int, shift: float = 3.0, schedule: str = "linear") -> list[float]:
    times = sigmas(steps, shift=shift, schedule=schedule).tolist()
    return times if STOCHASTIC[name].from_one else [first_sigma(shift), *times[1:]]


# A second reading of the formulas: float64 scalars, the state over alpha, divided differences one by one, Newton's for dpmpp.


def plain_euler_ancestral(x, s, s2, d, eta, eps):
    down = s2 - eta * s2 * (s - s2) / s
    x = d + (x - d) * down / s  # Euler along the velocity (x - d) / s
    signal = (1 - s2) / (1 - down)
    return signal * x + eps * math.sqrt(s2**2 - (signal * down) ** 2)


def plain_dpmpp(x, s, s2, d, eta, eps, old, heun):
    """In y = x / sigma, where the SDE is dy = -eta y dlambda + (1 + eta) e^lambda D dlambda + ..., integrated over lambda."""
    lam, lam2 = (math.log((1 - t) / t) for t in (s, s2))
    h, e = lam2 - lam, 1 + eta
    y = x / s * math.exp(-eta * h) + math.exp(lam2) * (1 - math.exp(-e * h)) * d
    if old:
        rate = (d - old[0]) / (lam - old[1])  # dD/dlambda
        if heun:  # the integral of e e^{lambda} e^{-eta (lam2 - lambda)} (lambda - lam), by Gauss
            z, w = np.polynomial.legendre.leggauss(40)
            at = h * (z + 1) / 2
            y += rate * float((w * e * np.exp(lam2 - e * (h - at)) * at).sum()) * h / 2
        else:
            y += rate * h / 2 * math.exp(lam2) * (1 - math.exp(-e * h))
    return s2 * (y + eps * math.sqrt(1 - math.exp(-2 * eta * h)))


def plain_er(x, s, s2, d, eta, eps, past):
    def phi(z):
        return z * (np.exp(z**0.3) + 10) ** eta

    l, l2 = s / (1 - s), s2 / (1 - s2)
    y = x / (1 - s) * phi(l2) / phi(l) + (1 - phi(l2) / phi(l)) * d
    z = np.linspace(l2, l, 200, endpoint=False)
    w = (l - l2) / 200 / phi(z)
    if past:
        first = (d - past[-1][1]) / (l - past[-1][0])
        y += (l2 - l + phi(l2) * w.sum()) * first
        if len(past) > 1:
            first_old = (past[-1][1] - past[-2][1]) / (past[-1][0] - past[-2][0])
            y += ((l2 - l) ** 2 / 2 + phi(l2) * (w * (z - l)).sum()) * (first - first_old) / ((l - past[-2][0]) / 2)
    return (1 - s2) * (y + eps * math.sqrt(max(l2**2 - (l * phi(l2) / phi(l)) ** 2, 0)))


def plainly(name: str, x: float, times: list[float], eta: float, noise: list[float]) -> float:
    past: list[tuple[float, float]] = []
    lam_old: tuple[float, float] | None = None
    for s, s2, eps in zip(times, times[1:], noise, strict=True):
        d = MEAN + slope(s) * (x - (1 - s) * MEAN)
        if s2 == 0:
            return d
        if name == "euler_ancestral":
            x = plain_euler_ancestral(x, s, s2, d, eta, eps)
        elif name == "er_sde":
            x = plain_er(x, s, s2, d, eta, eps, past)
            past.append((s / (1 - s), d))
        else:
            x = plain_dpmpp(x, s, s2, d, eta, eps, lam_old, name.endswith("heun"))
            lam_old = (d, math.log((1 - s) / s))
    raise AssertionError


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("eta", [1.0, 0.4, 0.0])
@pytest.mark.parametrize(("steps", "schedule"), [(1, "linear"), (4, "simple"), (30, "beta57")])
def test_a_run_equals_the_formulas_read_a_second_time(name, eta, steps, schedule):
    times, eps = times_of(name, steps, schedule=schedule), normal(steps, 5, seed=1, dtype=torch.float64)
    x = normal(5, seed=2, dtype=torch.float64)
    expected = torch.tensor([
        plainly(name, float(x[i]), times, eta, [0.9 * float(e) for e in eps[:, i]]) for i in range(5)
    ], dtype=torch.float64)  # fmt: skip
    got = solve(
        velocity, x.reshape(5, 1, 1, 1), sigmas(steps, shift=3.0, schedule=schedule), solver=name, eta=eta, s_noise=0.9,
        noise=lambda i: eps[i].reshape(5, 1, 1, 1), first_sigma=first_sigma(3.0),
    )  # fmt: skip
    torch.testing.assert_close(got.x.flatten().double(), expected, atol=3e-6, rtol=0)  # solve keeps float32
    exact = integrate(
        velocity, x.reshape(5, 1), times, STOCHASTIC[name].rule, eta=eta, s_noise=0.9, noise=lambda i: eps[i, :, None]
    )
    torch.testing.assert_close(exact.x.flatten(), expected, atol=1e-7, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_mean_and_variance_are_those_of_the_data(name):
    """32,768 numbers that start as noise: their mean and variance within three standard errors, which are 0.3 % and 0.8 %."""
    count, eps = 2**15, torch.Generator().manual_seed(4)
    steps = 1000 if name == "euler_ancestral" else 200  # the first-order one has a bias of 0.6 % even so
    solution = solve(
        velocity, normal(1, count, 1, 1, seed=3), sigmas(steps), solver=name,
        noise=lambda i: torch.randn(1, count, 1, 1, generator=eps),
    )  # fmt: skip
    error = (float(solution.x.mean()) - MEAN) / (STD / math.sqrt(count))
    assert abs(error) < 3
    assert abs(float(solution.x.var()) / STD**2 - 1) < 3 * math.sqrt(2 / count)


def moments(name: str, times: list[float], eta: float) -> tuple[float, float]:
    """Mean and variance after all steps without one draw: a step is linear in (x, last two estimates, 1), and so is an estimate."""
    second = np.diag([1.0, 0.0, 0.0, 1.0])
    for i, (now, then) in enumerate(pairwise(times)):
        estimate = np.array([slope(now), 0, 0, MEAN * (1 - slope(now) * (1 - now))])
        w = Weights(0, (1.0,), 0) if then == 0 else STOCHASTIC[name].rule(times, i, eta)
        d = (*w.denoised, 0.0, 0.0)
        step = np.array([w.state, d[1], d[2], 0]) + d[0] * estimate
        move = np.array([step, estimate, [0, 1, 0, 0], [0, 0, 0, 1]])
        second = move @ second @ move.T
        second[0, 0] += w.noise**2
    return second[0, 3], second[0, 0] - second[0, 3] ** 2


@pytest.mark.parametrize(
    ("name", "order"), [("euler_ancestral", 1), ("dpmpp_2m_sde", 2), ("dpmpp_2m_sde_heun", 2), ("er_sde", 2)]
)
@pytest.mark.parametrize("eta", [1.0, 0.5])
def test_the_bias_of_mean_and_variance_falls_with_the_order(name, order, eta):
    biases = []
    for steps in (100, 400):
        mean, variance = moments(name, times_of(name, steps, shift=1.0), eta)
        assert mean == pytest.approx(MEAN, abs=1e-3)
        biases.append(abs(variance / STD**2 - 1))
    assert biases[1] < biases[0] / 4**order * 1.6 + 1e-4  # the 200 points of er_sde's integrals cost it the last digits
    assert biases[1] < (0.02 if order == 1 else 0.002)


def even_in_lambda(steps: int, first: float, last: float) -> list[float]:
    ends = [math.log((1 - t) / t) for t in (first, last)]
    return [1 / (1 + math.exp(ends[0] + (ends[1] - ends[0]) * k / steps)) for k in range(steps + 1)]


def error_on_the_flow(rule: stochastic.Rule, steps: int) -> float:
    first, last, x = 0.9, 0.1, normal(64, 1, seed=5, dtype=torch.float64)
    spread = [math.hypot((1 - t) * STD, t) for t in (first, last)]
    exact = (1 - last) * MEAN + spread[1] / spread[0] * (x - (1 - first) * MEAN)
    solution = integrate(velocity, x, even_in_lambda(steps, first, last), rule, eta=0.0)
    return float((solution.x - exact).abs().max())


ONE, TWO, THREE = (partial(er_sde, stages=n, points=4000) for n in (1, 2, 3))


@pytest.mark.parametrize(
    ("rule", "order"),
    [
        (stochastic.euler_ancestral, 1),
        (stochastic.dpmpp_2m_sde, 2),
        (stochastic.dpmpp_2m_sde_heun, 2),
        (ONE, 1),
        (TWO, 2),
        (THREE, 2),
    ],
    ids=["euler_ancestral", "dpmpp_2m_sde", "dpmpp_2m_sde_heun", "er_sde-1", "er_sde-2", "er_sde-3"],
)
def test_without_randomness_a_solver_follows_the_flow_with_its_order(rule, order):
    errors = [error_on_the_flow(rule, steps) for steps in (64, 128)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.1)


def test_every_stage_of_er_sde_comes_nearer():
    """The third has the order of the second, because its D' is a one-sided difference, with about two thirds of the error."""
    errors = [error_on_the_flow(rule, 64) for rule in (ONE, TWO, THREE)]
    assert errors[1] < errors[0] / 10
    assert errors[2] < errors[1] * 0.75


def test_the_integrals_of_er_sde_are_near_the_fine_ones():
    times = even_in_lambda(20, 0.95, 0.05)
    for i in (0, 1, 2, 10, 19):
        coarse, fine = er_sde(times, i, 1.0), er_sde(times, i, 1.0, points=4000)
        assert coarse.denoised == pytest.approx(fine.denoised, abs=5e-3)
        assert sum(coarse.denoised) == pytest.approx(sum(fine.denoised), abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_weights_keep_a_constant_and_the_noise_level(name):
    """Where D is constant (one picture is all data), x = alpha D + sigma n stays of that form, with noise of variance sigma'^2."""
    for eta in (0.0, 0.3, 1.0):
        times = times_of(name, 12)[:-1]
        for i, (now, then) in enumerate(pairwise(times)):
            w = STOCHASTIC[name].rule(times, i, eta)
            assert w.state * (1 - now) + sum(w.denoised) == pytest.approx(1 - then, abs=1e-9)
            assert math.hypot(w.state * now, w.noise) == pytest.approx(then, abs=1e-9)


def test_euler_ancestral_without_randomness_is_euler():
    x, times = normal(2, 4, 6, 6), sigmas(9, shift=3.0)
    ancestral = solve(velocity, x, times, solver="euler_ancestral", eta=0.0)
    torch.testing.assert_close(ancestral.x, solve(velocity, x, times).x, atol=2e-6, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_no_noise_is_asked_for_where_none_is_added(name):
    def refuse(step):
        raise AssertionError

    x, times = normal(2, 4, 6, 6), sigmas(9, shift=3.0)
    still = solve(velocity, x, times, solver=name, eta=0.0, noise=refuse).x
    assert torch.equal(still, solve(velocity, x, times, solver=name, eta=0.0).x)
    zeros = solve(velocity, x, times, solver=name, noise=lambda i: torch.zeros(2, 4, 6, 6)).x
    torch.testing.assert_close(solve(velocity, x, times, solver=name, s_noise=0.0, noise=refuse).x, zeros)


@pytest.mark.parametrize("steps", [20, 28, 40])
def test_samples_of_dpmpp_2m_sde_vary_more_than_those_of_the_flow(steps):
    """Few steps make the flow narrower than the data; the noise of this solver makes up for it."""
    times = times_of("dpmpp_2m_sde", steps)
    sde, ode = (moments("dpmpp_2m_sde", times, eta)[1] for eta in (1.0, 0.0))
    assert sde > ode > moments("euler_ancestral", times, 0.0)[1]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("steps", [1, 2, 3, 28])
def test_steps_cost_one_evaluation_and_the_model_is_asked_where_it_was_trained(name, steps):
    asked, seen, drawn = [], [], []

    def counted(x, t_B):
        asked.append(t_B)
        return velocity(x, t_B)

    def noise(step):
        drawn.append(step)
        return normal(2, 4, 6, 6, seed=step)

    x = normal(2, 4, 6, 6, seed=9)
    solution = solve(counted, x, sigmas(steps, shift=3.0), solver=name, noise=noise, on_step=seen.append)
    assert len(asked) == steps
    assert solution.nfe_B.tolist() == solution.steps_B.tolist() == [steps] * 2
    assert drawn == list(range(steps - 1))  # the step to 0 is the estimate itself
    assert all(t.dtype == torch.float32 and T_MIN <= float(t.min()) <= float(t.max()) <= 1 for t in asked)
    assert [step.index for step in seen] == list(range(steps))
    assert torch.equal(seen[-1].denoised_BChw, solution.x)
    assert solution.x.dtype == torch.float32
    assert not bool(solution.capped_B.any())


@pytest.mark.parametrize("name", NAMES)
def test_the_true_velocity_of_a_pair_leads_back_to_the_data(name):
    x0, eps = torch.randn(2, 3, 4, 6, 6)
    # The field of a single picture: whatever noise was added, it points from there to the picture.
    solution = solve(
        lambda x, t_B: (x - x0) / t_B.reshape(-1, 1, 1, 1), eps, sigmas(6, shift=3.0), solver=name,
        noise=lambda i: normal(3, 4, 6, 6, seed=i),
    )  # fmt: skip
    torch.testing.assert_close(solution.x, x0, atol=5e-6, rtol=0)


def test_where_lambda_is_infinite_the_solver_begins_beside_it():
    first: list[float] = []
    for name in NAMES:
        for given in ({}, {"first_sigma": first_sigma(3.0)}):
            seen = []
            solve(
                velocity, normal(1, 1, 2, 2), sigmas(4, shift=3.0), solver=name, eta=0.0, on_step=seen.append, **given
            )
            first.append(float(seen[0].t_B[0]))
    assert first[:2] == [1.0, 1.0]
    assert first[2:] == pytest.approx([0.9999, 3 * 0.9999 / (1 + 2 * 0.9999)] * (len(NAMES) - 1), abs=1e-7)
    with pytest.raises(ConfigError, match="do not fall"):
        solve(velocity, normal(1, 1, 2, 2), torch.tensor([1.0, 0.99995, 0.0]), solver="er_sde", eta=0.0)


def test_a_wrong_setting_is_named():
    x, times = normal(1, 1, 2, 2), sigmas(4)
    with pytest.raises(ConfigError, match="adds noise at every step"):
        solve(velocity, x, times, solver="er_sde")
    with pytest.raises(ConfigError, match="needs a schedule"):
        solve(velocity, x, solver="er_sde", noise=lambda i: x)
    with pytest.raises(ConfigError, match="did you mean 'euler_ancestral'"):
        solve(velocity, x, times, solver="euler_ancestrl")
    for wrong in ({"eta": -1.0}, {"s_noise": math.nan}):
        with pytest.raises(ConfigError, match="negative or not finite"):
            solve(velocity, x, times, solver="er_sde", noise=lambda i: x, **wrong)
    with pytest.raises(AnimeflowError, match="not finite"):
        solve(lambda x, t_B: x * math.nan, x, times, solver="er_sde", noise=lambda i: x)

"""The Beta law against closed forms, and the schedules that pick by it."""

from __future__ import annotations

import math

import pytest
import torch

from animeflow.flow import beta
from animeflow.flow.schedule import sigmas

U = torch.linspace(0, 1, 101, dtype=torch.float64)
LAWS = [(0.6, 0.6), (0.5, 0.7), (2.0, 5.0), (3.5, 0.8)]


@pytest.mark.parametrize(
    ("a", "b", "closed"),
    [
        (1.0, 1.0, lambda u: u),
        (0.5, 0.5, lambda u: torch.sin(math.pi * u / 2) ** 2),  # the arcsine law
        (0.5, 1.0, lambda u: u**2),
        (3.0, 1.0, lambda u: u ** (1 / 3)),
        (1.0, 0.7, lambda u: 1 - (1 - u) ** (1 / 0.7)),
    ],
)
def test_quantiles_have_their_closed_form(a, b, closed):
    torch.testing.assert_close(beta.quantile(U, a, b), closed(U), atol=1e-12, rtol=0)


@pytest.mark.parametrize(("a", "b"), LAWS)
def test_the_quantile_inverts_the_share_and_the_law_mirrors(a, b):
    torch.testing.assert_close(beta.cdf(beta.quantile(U, a, b), a, b), U, atol=1e-9, rtol=0)
    inside = U[1:-1]  # an end of a law that is flat there is known to a few digits only
    torch.testing.assert_close(beta.quantile(1 - inside, b, a), 1 - beta.quantile(inside, a, b), atol=1e-9, rtol=0)


@pytest.mark.parametrize(("a", "b"), LAWS)
def test_the_share_is_the_integral_of_its_density(a, b):
    """The density by its formula, the integral by substitution x = y^(1/a) and midpoints: nothing in common with the series."""
    y = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000 * 0.6**a
    density = (1 - y ** (1 / a)) ** (b - 1) / a
    integral = float(density.mean()) * 0.6**a * math.gamma(a + b) / (math.gamma(a) * math.gamma(b))
    assert float(beta.cdf(torch.tensor(0.6), a, b)) == pytest.approx(integral, abs=1e-7)
    assert beta.cdf(torch.tensor([0.0, 1.0]), a, b).tolist() == [0.0, 1.0]


def test_beta57_equals_sigmas_made_elsewhere():
    """Entries of the table by another program's quantile function (scipy 1.17)."""
    entries = torch.tensor([1000, 890, 720, 536, 362, 212, 97, 25], dtype=torch.float64)
    t = torch.cat([entries / 1000, torch.zeros(1)])
    torch.testing.assert_close(sigmas(8, schedule="beta57"), t.float(), atol=1e-6, rtol=0)
    torch.testing.assert_close(
        sigmas(8, shift=3.0, schedule="beta57"), (3 * t / (1 + 2 * t)).float(), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize(("schedule", "a", "b"), [("beta", 0.6, 0.6), ("beta57", 0.5, 0.7)])
@pytest.mark.parametrize("steps", [3, 20, 57])
def test_every_stop_is_the_entry_next_to_its_quantile(schedule, a, b, steps):
    """Asked of the share, not of the quantile: the law at half an entry below and above must take the wanted share between them."""
    entries = torch.round(sigmas(steps, schedule=schedule).double()[:-1] * 1000) - 1
    wanted = 1 - torch.arange(steps, dtype=torch.float64) / steps
    below, above = ((entries + half).clamp(0, 999) / 999 for half in (-0.5, 0.5))
    assert len(entries) == steps
    assert bool((beta.cdf(below, a, b) <= wanted + 1e-9).all())
    assert bool((beta.cdf(above, a, b) >= wanted - 1e-9).all())


def test_an_entry_is_taken_once():
    times = sigmas(1000, shift=3.0, schedule="beta")
    assert 800 < len(times) < 1001
    assert bool((times.diff() < 0).all())
    assert float(times[0]) == 1.0
    assert float(times[-1]) == 0.0


def test_the_middle_of_a_symmetric_law_does_not_hang_on_the_last_bit():
    for steps in (2, 10, 28, 50):
        assert float(sigmas(steps, schedule="beta")[steps // 2]) == pytest.approx(0.501, abs=1e-6)

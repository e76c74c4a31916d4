"""The average is the integral that its formula says, whatever the batches, and the trained weights come back."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from animeflow.core.errors import ConfigError, DataError
from animeflow.optim.power_ema import WIDEST, PowerEMA, gamma_of, group_name, sigma_rel_of

WIDTHS = (0.05, 0.10)


@pytest.mark.parametrize(("sigma_rel", "gamma"), [(0.05, 16.97), (0.10, 6.94), (WIDEST, 0.0)])
def test_gamma_of_known_widths(sigma_rel: float, gamma: float) -> None:
    assert gamma_of(sigma_rel) == pytest.approx(gamma, abs=5e-3)


@pytest.mark.parametrize("sigma_rel", [0.005, 0.01, 0.03, 0.05, 0.10, 0.15, 0.2, 0.25, 0.288])
def test_gamma_is_the_inverse_of_the_width(sigma_rel: float) -> None:
    assert sigma_rel_of(gamma_of(sigma_rel)) == pytest.approx(sigma_rel, rel=1e-9)


def test_the_width_is_the_standard_deviation_of_the_profile() -> None:
    gamma, t = gamma_of(0.07), (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    profile = t**gamma / (t**gamma).sum()
    mean = (profile * t).sum()
    assert (profile * (t - mean) ** 2).sum().sqrt().item() == pytest.approx(0.07, rel=1e-4)


@pytest.mark.parametrize("sigma_rel", [0.0, 0.004, -0.1, 0.29, 1.0, float("nan")])
def test_a_width_that_no_profile_has_is_refused(sigma_rel: float) -> None:
    with pytest.raises(ConfigError, match=r"between 0\.005 and 0\.2887"):
        gamma_of(sigma_rel)


def _walk(module: nn.Module, step: int) -> None:
    draw = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(torch.randn(p.shape, generator=draw))


@pytest.mark.parametrize("batches", [[8] * 40, [5, 1, 30, 7, 7, 64, 2, 90, 11, 3] * 3])
def test_updates_with_any_batches_give_the_closed_form(batches: list[int]) -> None:
    """The weights of images (a, b] count (b^(gamma+1) - a^(gamma+1)) / T^(gamma+1), exactly, whatever the batches were."""
    module = nn.Linear(3, 2)
    ema = PowerEMA(module, sigma_rels=WIDTHS)
    seen, history = 0, []
    for step, batch in enumerate(batches):
        _walk(module, step)
        seen += batch
        history.append((seen - batch, seen, module.weight.detach().double().clone()))
        ema.update(seen, batch)
    for width in WIDTHS:
        power = gamma_of(width) + 1
        expected = sum(((b / seen) ** power - (a / seen) ** power) * weight for a, b, weight in history)
        torch.testing.assert_close(ema.group(width)["weight"].double(), expected, rtol=2e-6, atol=2e-6)


def test_the_first_step_forgets_the_start() -> None:
    module = nn.Linear(2, 2)
    ema = PowerEMA(module, sigma_rels=WIDTHS)
    _walk(module, 0)
    ema.update(16, 16)
    for width in WIDTHS:
        assert torch.equal(ema.group(width)["weight"], module.weight)


def test_inside_are_the_averages_and_after_exactly_the_trained_weights_also_after_an_error() -> None:
    module = nn.Linear(3, 3)
    ema = PowerEMA(module, sigma_rels=WIDTHS)
    for step in range(5):
        _walk(module, step)
        ema.update(8 * (step + 1), 8)
    trained = copy.deepcopy(module.state_dict())
    for width in WIDTHS:
        with ema.applied(width):
            assert torch.equal(module.weight, ema.group(width)["weight"])
            assert not torch.equal(module.weight, trained["weight"])
        assert all(torch.equal(value, trained[name]) for name, value in module.state_dict().items())
    with pytest.raises(RuntimeError, match="inside"), ema.applied(0.05):
        raise RuntimeError("inside")
    assert all(torch.equal(value, trained[name]) for name, value in module.state_dict().items())


def test_frozen_parameters_have_no_average() -> None:
    module = nn.Sequential(nn.Linear(2, 2).requires_grad_(False).bfloat16(), nn.Linear(2, 2))
    ema = PowerEMA(module, sigma_rels=WIDTHS)
    assert set(ema.group(0.05)) == {"1.weight", "1.bias"}
    with ema.applied(0.05):
        assert module[0].weight.dtype == torch.bfloat16


def test_a_loaded_average_goes_on_as_if_never_saved() -> None:
    def go(module: nn.Module, ema: PowerEMA, steps: range) -> None:
        for step in steps:
            _walk(module, step)
            ema.update(8 * (step + 1), 8)

    straight, first = nn.Linear(2, 2), nn.Linear(2, 2)
    first.load_state_dict(straight.state_dict())
    one, two = PowerEMA(straight, sigma_rels=WIDTHS), PowerEMA(first, sigma_rels=WIDTHS)
    go(straight, one, range(6))
    go(first, two, range(3))
    second = nn.Linear(2, 2)
    second.load_state_dict(first.state_dict())
    saved = {group: {name: t.clone() for name, t in values.items()} for group, values in two.state_dict().items()}
    again = PowerEMA(second, sigma_rels=WIDTHS)
    again.load_state_dict({"learner": {}, **saved})
    go(second, again, range(3, 6))
    for group, values in one.state_dict().items():
        assert all(torch.equal(value, again.state_dict()[group][name]) for name, value in values.items())
    assert list(one.state_dict()) == [group_name(0.05), group_name(0.10)] == ["ema-0.050", "ema-0.100"]


def test_averages_that_do_not_fit_are_refused_before_anything_is_loaded() -> None:
    ema = PowerEMA(nn.Linear(2, 2), sigma_rels=WIDTHS)
    before = ema.group(0.05)["weight"].clone()
    state = {group: {name: t + 1 for name, t in values.items()} for group, values in ema.state_dict().items()}
    with pytest.raises(DataError, match=r"no average 'ema-0\.100'"):
        ema.load_state_dict({"ema-0.050": state["ema-0.050"]})
    del state["ema-0.100"]["bias"]
    with pytest.raises(DataError, match="of other parameters: 1 differ, bias first"):
        ema.load_state_dict(state)
    assert torch.equal(ema.group(0.05)["weight"], before)


def test_widths_that_cannot_be_told_apart_are_refused() -> None:
    with pytest.raises(ConfigError, match="told apart"):
        PowerEMA(nn.Linear(2, 2), sigma_rels=(0.0501, 0.0502))
    with pytest.raises(ConfigError, match=r"no average of the width 0\.07"):
        PowerEMA(nn.Linear(2, 2), sigma_rels=WIDTHS).group(0.07)

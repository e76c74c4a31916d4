"""Laws of t against their closed forms, the shift's algebra and the weights."""

from __future__ import annotations

import math

import pytest
import torch

from animeflow.core.errors import ConfigError
from animeflow.flow import density as densities
from animeflow.flow import shift as shifts
from animeflow.flow.density import CosMap, Floor, LogitNormal, Mode, Shifted, Uniform
from animeflow.flow.shift import FixedShift, FluxMuShift, SqrtAreaShift, shifted
from animeflow.flow.weight import Weight, emphasis

U = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000


def logit_normal_cdf(t):
    return torch.special.ndtr((torch.logit(t.double()) - 0.4) / 0.8)


def cosmap_cdf(t):
    return 2 / math.pi * torch.atan(t.double() / (1 - t.double()))


@pytest.mark.parametrize(
    ("density", "cdf"),
    [(Uniform(), lambda t: t.double()), (LogitNormal(0.4, 0.8), logit_normal_cdf), (CosMap(), cosmap_cdf)],
    ids=["uniform", "logit_normal", "cosmap"],
)
def test_quantile_inverts_the_closed_form_cdf(density, cdf):
    t = density.quantile(U)
    assert t.dtype == torch.float32
    torch.testing.assert_close(cdf(t), U, atol=2e-6, rtol=0)
    assert bool((t.diff() > 0).all())


def test_cosmap_has_the_density_of_the_weight_of_the_same_name():
    t = CosMap().quantile(U).double()
    slope = 1 / (t.diff() * len(U))
    middle = ((t[1:] + t[:-1]) / 2).float()
    torch.testing.assert_close(slope.float(), Weight(form="cosmap")(middle), rtol=5e-3, atol=0)


def test_mode_falls_from_one_to_zero_through_a_half_and_favours_the_middle():
    t = Mode(1.29).quantile(U)
    assert bool((t.diff() < 0).all())
    assert float(Mode(1.29).quantile(torch.tensor(0.5))) == pytest.approx(0.5)
    assert float(((t > 0.4) & (t < 0.6)).float().mean()) > 0.2
    torch.testing.assert_close(Mode(0.0).quantile(U), (1 - U).float())
    with pytest.raises(ConfigError, match="scale"):
        Mode(2.0)


@pytest.mark.parametrize("density", [Uniform(), LogitNormal(), Mode(), CosMap(), densities.sd3_paper()])
def test_t_stays_in_the_closed_interval_at_the_ends(density):
    t = density.quantile(torch.tensor([0.0, 1e-300, 0.5, 1 - 2**-53]))
    assert bool(((t >= 0) & (t <= 1)).all())


def test_floor_takes_exactly_its_share_and_leaves_the_rest_alone():
    main = LogitNormal()
    t = Floor(main, share=0.02, low=0.97).quantile(U)
    low = U < 0.02
    assert int(low.sum()) == len(U) // 50
    torch.testing.assert_close(t[low].double(), 0.97 + 0.03 * U[low] / 0.02, atol=1e-6, rtol=0)
    stretched = (torch.arange(int((~low).sum()), dtype=torch.float64) + 0.5) / int((~low).sum())
    torch.testing.assert_close(t[~low], main.quantile(stretched))
    assert torch.equal(Floor(main, share=0.0).quantile(U), main.quantile(U))


def test_presets_have_the_masses_they_are_chosen_for():
    u = (torch.arange(2_000_000, dtype=torch.float64) + 0.5) / 2_000_000

    def above(t, density):
        return float((density.quantile(u) > t).double().mean())

    assert above(0.98, densities.kohya_sd3_compat()) == pytest.approx(5.0e-5, rel=0.02)
    assert above(0.98, densities.build(shift=3.0, floor_share=0.0)) == pytest.approx(2.6e-3, rel=0.02)
    assert above(0.98, densities.sd3_paper()) == pytest.approx(0.98 * 2.6e-3 + 0.02 * 2 / 3, rel=0.02)
    assert float(densities.uniform().quantile(u).mean()) == pytest.approx(0.5, abs=1e-6)


def test_shifts_compose_by_product_and_invert():
    t = torch.linspace(0, 1, 1001, dtype=torch.float64)
    torch.testing.assert_close(shifted(shifted(t, 1.7), 2.3), shifted(t, 1.7 * 2.3))
    torch.testing.assert_close(shifted(shifted(t, 3.0), 1 / 3.0), t)
    assert float(shifted(t, 3.0)[0]) == 0
    assert float(shifted(t, 3.0)[-1]) == 1


def test_shifting_a_logit_normal_moves_its_mean_by_the_logarithm():
    ours = Shifted(LogitNormal(0.2, 0.9), FixedShift(3.0)).quantile(U)
    torch.testing.assert_close(ours, LogitNormal(0.2 + math.log(3.0), 0.9).quantile(U), atol=1e-6, rtol=0)


def test_shift_grows_with_the_picture():
    assert SqrtAreaShift(3.0).factor(32 * 32) == pytest.approx(1.5)
    assert SqrtAreaShift(3.0).factor(96 * 96) == pytest.approx(4.5)
    assert FluxMuShift().factor(256) == pytest.approx(math.exp(0.5))
    assert FluxMuShift().factor(4096) == pytest.approx(3.158, abs=1e-3)
    law = densities.build(shift=SqrtAreaShift(3.0), floor_share=0.0)
    torch.testing.assert_close(law.quantile(U, tokens=1024), LogitNormal(math.log(1.5), 1.0).quantile(U))


def test_settings_that_make_no_sense_are_named():
    for broken in (
        lambda: densities.build("logit_norml"),
        lambda: densities.build(std=0.0),
        lambda: densities.build(floor_share=1.0),
        lambda: shifts.build("sqrt"),
        lambda: shifts.build("fixed"),
        lambda: shifts.build("flux_mu", 3.0),
        lambda: shifts.build("fixed", -1.0),
        lambda: Weight("x"),
        lambda: Weight("v", "sigma_sqrt"),
    ):
        with pytest.raises(ConfigError, match="do:"):
            broken()
    with pytest.raises(ConfigError, match="did you mean 'logit_normal'"):
        densities.build("logit_norml")


def test_weight_turns_the_velocity_error_into_the_error_of_each_space():
    x0, noise, v = torch.randn(3, 5, 2, 4, 4)
    t_B = torch.tensor([0.05, 0.3, 0.5, 0.9, 0.99])
    from animeflow.flow import path

    x_t = path.interpolate(x0, noise, t_B)
    error_v = (v - path.velocity(x0, noise)).square().mean((1, 2, 3))
    error_x0 = (path.denoised(x_t, v, t_B) - x0).square().mean((1, 2, 3))
    t = t_B.reshape(-1, 1, 1, 1)
    error_eps = (x_t + (1 - t) * v - noise).square().mean((1, 2, 3))
    torch.testing.assert_close(Weight("x0")(t_B) * error_v, error_x0)
    torch.testing.assert_close(Weight("eps")(t_B) * error_v, error_eps, rtol=1e-4, atol=1e-6)
    assert torch.equal(Weight("x0", "sigma_sqrt")(t_B), torch.ones(5))


def test_the_x0_loss_without_shift_emphasises_what_a_shift_of_two_does():
    u = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    t = densities.kohya_sd3_compat().quantile(u).double()
    w = Weight("x0")(t.float()).double()
    assert float((w * t).sum() / w.sum()) == pytest.approx(0.648, abs=2e-3)
    share = emphasis(densities.kohya_sd3_compat(), Weight("x0"), bins=10)
    assert sum(share) == pytest.approx(1.0)
    assert share[6] > share[3]

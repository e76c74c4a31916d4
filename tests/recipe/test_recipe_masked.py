"""The loss of pictures with masks: normalised by each picture's own mask, equal however a step is cut."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

from animeflow.core.batch import Batch
from animeflow.core.conditioning import Conditioning
from animeflow.core.errors import ConfigError
from animeflow.flow.weight import Weight
from animeflow.recipe.masked import mean_square
from animeflow.recipe.validation import fixed_noise_loss, law_times
from animeflow.recipe.velocity import Velocity


class Learner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x, t_B, cond):
        return self.net(x) * (1 + t_B).reshape(-1, 1, 1, 1)


def masks() -> torch.Tensor:
    """Eight: parts of cells, one cell, everything, nothing."""
    mask = torch.rand(8, 1, 6, 10, generator=torch.Generator().manual_seed(2))
    mask[1] = 0
    mask[1, :, 2, 3] = 1
    mask[2], mask[3] = 1, 0
    return mask


def batch(rows: slice = slice(None), *, mask: torch.Tensor | None = None) -> Batch:
    latents = torch.randn(8, 4, 6, 10, generator=torch.Generator().manual_seed(1))
    cond = Conditioning({"word": torch.zeros(8)})
    uids = tuple(range(1000, 1008))
    part = None if mask is None else mask[rows]
    return Batch(latents[rows], cond.rows(rows), uids[rows], (0,) * len(uids[rows]), 8, masks=part)


@pytest.mark.parametrize("background", [0.0, 0.1, 1.0])
def test_loss_equals_the_formula_written_by_hand(background):
    net, whole = Learner(), batch(mask=masks())
    recipe = Velocity(net, weight=Weight("x0"), seed=5, background=background)
    report = recipe.loss(whole)
    noise, t_B = recipe.draw(whole)
    expected = 0.0
    for i, t in enumerate(t_B):
        x0 = whole.latents[i]
        v = net(((1 - t) * x0 + t * noise[i])[None], t[None], None)[0]
        square_Chw = (v - (noise[i] - x0)) ** 2
        above, below = 0.0, 0.0
        for y in range(6):
            for x in range(10):
                m = background + (1 - background) * float(masks()[i, 0, y, x])
                above, below = above + m * square_Chw[:, y, x].mean(), below + m
        error = above / below if below else square_Chw.mean()  # nothing counts: everything does
        torch.testing.assert_close(report.loss_B[i], error.detach(), rtol=1e-5, atol=0)
        expected = expected + t**2 * error / 8
    torch.testing.assert_close(report.loss, expected)


@pytest.mark.parametrize("cuts", [(4,), (2, 4, 6), (1, 2, 3, 4, 5, 6, 7)])
def test_parts_of_a_step_sum_to_the_whole(cuts):
    one, many = Learner(), Learner()
    whole = Velocity(one, seed=3).loss(batch(mask=masks()))
    whole.loss.backward()
    parts = [Velocity(many, seed=3).loss(batch(slice(a, b), mask=masks())) for a, b in pairwise((0, *cuts, 8))]
    sum(part.loss for part in parts).backward()
    torch.testing.assert_close(sum(part.loss for part in parts), whole.loss)
    torch.testing.assert_close(torch.cat([part.loss_B for part in parts]), whole.loss_B)
    torch.testing.assert_close(many.net.weight.grad, one.net.weight.grad, atol=1e-6, rtol=1e-5)


def test_an_error_that_is_equal_everywhere_costs_the_same_under_every_mask():
    """So a small subject weighs as much in a step as a large one."""
    error = torch.full((8, 4, 6, 10), 0.5)
    torch.testing.assert_close(mean_square(error, masks(), background=0.1), torch.full((8,), 0.25))
    torch.testing.assert_close(mean_square(error, masks(), background=0.0), torch.full((8,), 0.25))


def test_what_the_mask_leaves_out_counts_a_tenth():
    mask = torch.zeros(2, 1, 4, 4)
    mask[:, :, :2] = 1
    error = torch.zeros(2, 3, 4, 4)
    error[0, :, :2] = 1  # inside
    error[1, :, 2:] = 1  # outside
    inside, outside = mean_square(error, mask, background=0.1)
    assert float(inside) == pytest.approx(1 / 1.1)
    assert float(outside) == pytest.approx(0.1 / 1.1)


def test_a_mask_of_ones_is_no_mask_and_no_mask_changes_no_bit():
    net = Learner()
    plain, ones = (Velocity(net, seed=3).loss(batch(mask=m)) for m in (None, torch.ones(8, 1, 6, 10)))
    torch.testing.assert_close(ones.loss_B, plain.loss_B)
    error = torch.randn(8, 4, 6, 10)
    assert torch.equal(mean_square(error), error.square().flatten(1).mean(1))
    assert torch.equal(Velocity(net, seed=3, background=0.7).loss(batch()).loss, plain.loss)


def test_masks_of_the_cache_are_bfloat16_and_the_loss_is_float32():
    report = Velocity(Learner(), seed=3).loss(batch(mask=masks().bfloat16()))
    assert report.loss.dtype == report.loss_B.dtype == torch.float32
    exact = Velocity(Learner(), seed=3).loss(batch(mask=masks()))
    torch.testing.assert_close(report.loss_B, exact.loss_B, rtol=1e-2, atol=0)


@pytest.mark.parametrize("background", [-0.1, 1.5])
def test_a_background_that_is_no_share_is_refused(background):
    with pytest.raises(ConfigError, match="is not a share"):
        Velocity(Learner(), background=background)


def test_validation_is_about_what_the_mask_shows():
    """A learner that is wrong outside of the mask alone loses a tenth of what one loses that is wrong inside."""

    class Knows(nn.Module):
        def __init__(self, wrong: torch.Tensor) -> None:
            super().__init__()
            self.wrong = wrong

        def forward(self, x, t_B, cond):
            return (x - cond["picture"] - self.wrong) / t_B.reshape(-1, 1, 1, 1)

    mask = torch.zeros(8, 1, 6, 10)
    mask[:, :, :3] = 1
    part = batch(mask=mask)
    part = replace(part, conditioning=Conditioning({"picture": part.latents}))
    inside, outside = (fixed_noise_loss(Knows(wrong), [part]) for wrong in (mask[:1], 1 - mask[:1]))
    assert outside["val/loss"] == pytest.approx(0.1 * inside["val/loss"], rel=1e-4)
    assert inside["val/dc"] == pytest.approx(outside["val/dc"], rel=1e-3), "brightness is of the whole picture"


def test_the_middle_of_the_times_has_a_loss_of_its_own():
    class Zero(nn.Module):
        def forward(self, x, t_B, cond):
            return torch.zeros_like(x)

    values = fixed_noise_loss(Zero(), [batch(slice(0, 5)), batch(slice(5, 8))])
    middle = [values[f"val/loss_t{t:.3f}"] for t in law_times() if 0.3 <= t <= 0.8]
    assert 3 <= len(middle) < 10
    assert values["val/loss_mid"] == pytest.approx(sum(middle) / len(middle))
    assert "val/loss_mid" not in fixed_noise_loss(Zero(), [batch()], quantiles=[0.95])

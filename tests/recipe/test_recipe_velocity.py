"""The velocity loss against a hand-written one, and what it must not depend on."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

from animeflow.core import seed as keyed
from animeflow.core.batch import Batch
from animeflow.core.conditioning import Conditioning
from animeflow.flow import density as densities
from animeflow.flow.shift import SqrtAreaShift
from animeflow.flow.weight import Weight
from animeflow.recipe.protocol import Recipe
from animeflow.recipe.velocity import Velocity


class Learner(nn.Module):
    """Any module: forward(x, t, cond). Keeps what it was called with."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Conv2d(4, 4, 1)
        self.seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def forward(self, x, t_B, cond):
        self.seen.append((x, t_B))
        return self.net(x) * (1 + t_B).reshape(-1, 1, 1, 1) + cond["word"].reshape(-1, 1, 1, 1)


def learner() -> Learner:
    torch.manual_seed(0)
    return Learner()


def batch(rows: slice = slice(None), *, global_count: int = 8, dtype: torch.dtype = torch.float32) -> Batch:
    latents = torch.randn(8, 4, 6, 10, generator=torch.Generator().manual_seed(1)).to(dtype)
    uids, visits = tuple(range(1000, 1008)), (0, 0, 1, 1, 2, 2, 3, 3)
    words = Conditioning({"word": torch.linspace(-1, 1, 8)})
    return Batch(latents[rows], words.rows(rows), uids[rows], visits[rows], global_count)


def test_loss_equals_the_formula_written_by_hand():
    net, whole, seed = learner(), batch(), 5
    report = Velocity(net, density=densities.kohya_sd3_compat(), weight=Weight("x0"), seed=seed).loss(whole)
    expected = 0.0
    for i, (uid, visit) in enumerate(zip(whole.uids, whole.visits, strict=True)):
        x0, noise = whole.latents[i], keyed.normal((4, 6, 10), seed, uid, visit, "noise")
        u = keyed.uniform(seed, uid, visit, "t")
        t = torch.sigmoid(torch.special.ndtri(torch.tensor(u, dtype=torch.float64))).float()
        x_t = (1 - t) * x0 + t * noise
        v = net(x_t[None], t[None], whole.conditioning.rows([i]))[0]
        error = ((v - (noise - x0)) ** 2).mean()
        assert float(report.loss_B[i]) == pytest.approx(float(error.detach()), rel=1e-5)
        assert float(report.t_B[i]) == float(t)
        expected = expected + t**2 * error / 8
    torch.testing.assert_close(report.loss, expected)


@pytest.mark.parametrize("cuts", [(4,), (2, 4, 6), (1, 2, 3, 4, 5, 6, 7), (3,)])
def test_parts_of_a_step_sum_to_the_whole(cuts):
    """However a step is cut into micro-batches: the same noise, losses that add up, the same gradient."""
    one, many = learner(), learner()
    whole = Velocity(one, seed=3).loss(batch())
    whole.loss.backward()
    edges = (0, *cuts, 8)
    parts = [Velocity(many, seed=3).loss(batch(slice(a, b))) for a, b in pairwise(edges)]
    sum(part.loss for part in parts).backward()
    assert torch.equal(torch.cat([part.t_B for part in parts]), whole.t_B)
    torch.testing.assert_close(torch.cat([part.loss_B for part in parts]), whole.loss_B)
    torch.testing.assert_close(sum(part.loss for part in parts), whole.loss)
    torch.testing.assert_close(many.net.weight.grad, one.net.weight.grad, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("latents", [torch.float32, torch.bfloat16])
def test_the_model_is_told_bitwise_the_t_that_made_the_noise(latents):
    """Under bf16 autocast, which trainers that cast t lose: 0.9811 would become 0.9805."""
    net, part = learner(), batch(dtype=latents)
    recipe = Velocity(net, seed=7)
    with torch.autocast("cpu", torch.bfloat16):
        report = recipe.loss(part)
    x_t, told = net.seen[-1]
    u = torch.tensor([keyed.uniform(7, uid, visit, "t") for uid, visit in zip(part.uids, part.visits, strict=True)])
    assert told.dtype == torch.float32
    assert torch.equal(told, report.t_B)
    assert not torch.equal(told, told.bfloat16().float())
    torch.testing.assert_close(told, densities.sd3_paper().quantile(u.double()), atol=1e-5, rtol=0)
    noise, _ = recipe.draw(part)
    t = told.reshape(-1, 1, 1, 1)
    assert x_t.dtype == torch.float32
    assert torch.equal(x_t, (1 - t) * part.latents.float() + t * noise)
    assert report.loss.dtype == report.loss_B.dtype == torch.float32
    assert report.loss.requires_grad
    assert not report.loss_B.requires_grad


def test_draws_depend_on_image_visit_and_seed_and_on_nothing_else():
    recipe = Velocity(learner(), seed=1)
    noise, t = recipe.draw(batch())
    torch.manual_seed(99)
    again_noise, again_t = recipe.draw(batch(slice(5, 6)))
    assert torch.equal(again_noise[0], noise[5])
    assert torch.equal(again_t[0], t[5])
    later = batch(slice(5, 6))
    later = Batch(later.latents, later.conditioning, later.uids, (9,), 8)
    assert not torch.equal(recipe.draw(later)[0], again_noise)
    assert not torch.equal(Velocity(learner(), seed=2).draw(batch())[0], noise)


def test_larger_pictures_draw_noisier_times_under_a_shift_by_area():
    law = densities.build(shift=SqrtAreaShift(3.0), floor_share=0.0)
    recipe = Velocity(learner(), density=law, seed=1)
    empty = Conditioning({"word": torch.zeros(1)})
    small = Batch(torch.zeros(1, 4, 8, 8), empty, (1,), (0,), 1)
    large = Batch(torch.zeros(1, 4, 16, 16), empty, (1,), (0,), 1)
    t_small, t_large = recipe.draw(small)[1].double(), recipe.draw(large)[1].double()
    assert float(torch.logit(t_large) - torch.logit(t_small)) == pytest.approx(0.6931, abs=1e-4)


def test_it_is_a_recipe_of_one_phase_that_moves_its_learner():
    net = learner()
    recipe = Velocity(net)
    (phase,) = recipe.phases()
    assert isinstance(recipe, Recipe)
    assert phase.learner is net
    phase.loss(batch()).loss.backward()
    assert float(net.net.weight.grad.abs().sum()) > 0


def placed(places, *, step: int = 3, count: int = 8) -> Batch:
    part = batch(slice(0, len(places)), global_count=count)
    return replace(part, step=step, places=tuple(places))


def test_the_timesteps_of_a_step_fill_every_stratum_of_the_law_once():
    recipe = Velocity(learner(), density=densities.uniform(), seed=1)
    for step in range(20):
        t = recipe.draw(placed(range(8), step=step))[1].double()
        assert sorted((t * 8).long().tolist()) == list(range(8)), "one in every eighth"
        assert torch.allclose((t * 8).frac(), (t[:1] * 8).frac().expand(8), atol=1e-5), "all shifted by one number"


def test_strata_do_not_depend_on_how_a_step_is_cut():
    recipe = Velocity(learner(), seed=1)
    whole = recipe.draw(placed(range(8)))[1]
    for rank in range(2):  # two processes, two micro-batches each
        for first in (rank, rank + 4):
            assert torch.equal(recipe.draw(placed([first, first + 2]))[1], whole[[first, first + 2]])
    assert not torch.equal(recipe.draw(placed(range(8), step=4))[1], whole)


def test_one_place_over_many_steps_follows_the_law():
    """Kolmogorov-Smirnov at 2000 draws: above 1.63 / sqrt(n) one time in a hundred."""
    recipe = Velocity(learner(), density=densities.uniform(), seed=1)
    t = torch.stack([recipe.draw(placed([5], step=step))[1] for step in range(2000)]).flatten().double().sort()[0]
    distance = (t - torch.linspace(0, 1, 2000, dtype=torch.float64)).abs().max()
    assert float(distance) < 1.63 / 2000**0.5


def test_stratified_steps_have_a_steadier_mean():
    recipe, loose = Velocity(learner(), seed=1), Velocity(learner(), seed=1, stratified=False)
    means = [r.draw(placed(range(8), step=s))[1].mean() for r in (recipe,) for s in range(100)]
    images = [replace(placed(range(8)), visits=(s,) * 8) for s in range(100)]
    iid = [loose.draw(each)[1].mean() for each in images]
    assert float(torch.stack(means).var()) < 0.4 * float(torch.stack(iid).var())


def test_what_was_drawn_ahead_is_what_the_loss_would_draw():
    recipe, part = Velocity(learner(), seed=4), placed(range(8))
    ahead = recipe.prepare(part)
    assert recipe.prepare(ahead) is ahead
    assert torch.equal(recipe.loss(ahead).loss, recipe.loss(part).loss)

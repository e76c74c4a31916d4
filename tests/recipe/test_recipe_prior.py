"""What a recipe asks of the base: the distance to what it says under the class alone."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from recipe_toys import Added, batch, recipe

from animeflow.core.errors import ConfigError
from animeflow.flow.weight import Weight
from animeflow.recipe.velocity import Velocity

ROWS = [slice(a, b) for a, b in pairwise((0, 2, 4, 6, 8))]


@pytest.mark.parametrize("weight", [Weight(), Weight("x0")], ids=["v", "x0"])
def test_loss_equals_the_formula_written_by_hand(weight):
    """Of a linear learner v = W x + B A x + u(1 + t): the distance to its base is B A x_t, whatever the words are."""
    net, whole = Added(up=0.3), batch()
    asked = recipe(net, weight=weight, prior_weight=0.7)
    report = asked.loss(whole)
    noise, t_B = asked.draw(whole)
    expected = 0.0
    for i, t in enumerate(t_B):
        x0 = whole.latents[i]
        x_t = (1 - t) * x0 + t * noise[i]
        addition = torch.einsum("or,rc,chw->ohw", net.up, net.down, x_t)
        word = whole.conditioning["word"][i] * (1 + t)
        v = torch.einsum("oc,chw->ohw", net.base, x_t) + addition + word
        error, prior = ((v - (noise[i] - x0)) ** 2).mean(), (addition**2).mean()
        torch.testing.assert_close(report.loss_B[i], error.detach())
        torch.testing.assert_close(report.parts["prior"][i], prior.detach(), rtol=1e-4, atol=1e-6)
        expected = expected + (t**2 if weight.space == "x0" else 1) * (error + 0.7 * prior) / 8
    torch.testing.assert_close(report.loss, expected)


def test_only_the_additions_move_and_the_base_is_no_target_that_follows():
    """The gradient is that of the distance to a constant."""
    net, whole = Added(up=0.3), batch()
    plain, kept = recipe(net, prior_weight=0.0).loss(whole), recipe(net, prior_weight=2.0).loss(whole)
    of_prior = torch.autograd.grad(kept.loss - plain.loss, (net.up, net.down))
    asked = recipe(net, prior_weight=0.0)
    noise, t_B = asked.draw(whole)
    t = t_B.reshape(-1, 1, 1, 1)
    x_t = (1 - t) * whole.latents + t * noise
    addition = torch.einsum("or,rc,bchw->bohw", net.up, net.down, x_t)
    by_hand = torch.autograd.grad(2.0 * addition.square().flatten(1).mean(1).sum() / 8, (net.up, net.down))
    for found, expected in zip(of_prior, by_hand, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)


def test_a_fresh_addition_is_no_distance_and_has_no_gradient_of_it():
    net = Added(up=0.0)
    report = recipe(net, prior_weight=3.0).loss(batch())
    plain = recipe(net, prior_weight=0.0).loss(batch())
    assert not bool(report.parts["prior"].any())
    assert torch.equal(report.loss, plain.loss)
    for one, other in zip(_gradients(net, report), _gradients(net, plain), strict=True):
        assert torch.equal(one, other)


def test_a_weight_of_zero_is_no_prior_bit_for_bit_and_asks_nothing():
    one, other = Added(up=0.3), Added(up=0.3)
    zero, none = recipe(one, prior_weight=0.0).loss(batch()), Velocity(other, seed=3).loss(batch())
    assert torch.equal(zero.loss, none.loss) and not zero.parts and one.asked == 1
    for mine, theirs in zip(_gradients(one, zero), _gradients(other, none), strict=True):
        assert torch.equal(mine, theirs)


def test_the_same_noise_and_t_three_times_with_the_additions_off_once():
    net = Added(up=0.3)
    recipe(net, prior_weight=1.0).loss(batch())
    (x, t, _, on, grad), (x1, t1, word1, on1, grad1), (x2, t2, word2, on2, grad2) = sorted(
        net.calls, key=lambda call: (not torch.equal(call[2], batch().conditioning["word"]), call[3])
    )
    assert torch.equal(x, x1) and torch.equal(x, x2) and torch.equal(t, t1) and torch.equal(t, t2)
    assert (on, on1, on2) == (True, False, True) and (grad, grad1, grad2) == (True, False, True)
    assert torch.equal(word1, batch().prior["word"]) and torch.equal(word2, word1)
    assert net.on, "and on again after"


def test_masks_are_of_what_is_learned_and_the_prior_is_of_the_whole_picture():
    mask = torch.zeros(8, 1, 6, 10)
    mask[:, :, 2:4, 3:6] = 1
    net = Added(up=0.3)
    masked = recipe(net, prior_weight=1.0).loss(replace(batch(), masks=mask))
    plain = recipe(net, prior_weight=1.0).loss(batch())
    assert torch.equal(masked.parts["prior"], plain.parts["prior"])
    assert not torch.equal(masked.loss_B, plain.loss_B)


def test_parts_of_a_step_sum_to_the_whole():
    one, many = Added(up=0.3), Added(up=0.3)
    whole = recipe(one, prior_weight=0.5).loss(batch())
    parts = [recipe(many, prior_weight=0.5).loss(batch(rows)) for rows in ROWS]
    torch.testing.assert_close(sum(part.loss for part in parts), whole.loss)
    torch.testing.assert_close(torch.cat([part.parts["prior"] for part in parts]), whole.parts["prior"])
    whole.loss.backward()
    for part in parts:
        part.loss.backward()
    torch.testing.assert_close(many.up.grad, one.up.grad, atol=1e-6, rtol=1e-5)


def test_what_cannot_be_asked_is_refused():
    with pytest.raises(ConfigError, match="without a base"):
        Velocity(Added(up=0.0), prior_weight=1.0)
    with pytest.raises(ConfigError, match="0 or above"):
        Velocity(Added(up=0.0), prior_weight=-1.0, base=contextlib.nullcontext)
    with pytest.raises(ConfigError, match="the batch has none"):
        recipe(Added(up=0.0), prior_weight=1.0).loss(replace(batch(), prior=None))


@pytest.mark.slow
def test_two_processes_find_the_gradients_of_one(tmp_path):
    """Two forward passes with gradients and one without before every backward, accumulated over two micro-batches."""
    net = Added(up=0.3)
    recipe(net, prior_weight=0.5).loss(batch()).loss.backward()
    script = Path(__file__).parent / "prior_processes.py"
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "gradients.json").read_text())
    for how in ("ddp", "fsdp2"):
        for name in ("up", "down"):
            torch.testing.assert_close(torch.tensor(found[how][name]), getattr(net, name).grad, atol=1e-6, rtol=1e-4)


def _gradients(net, report):
    return torch.autograd.grad(report.loss, (net.up, net.down))

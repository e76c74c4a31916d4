"""A picture's weight is a factor of its loss and of nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from recipe_toys import Added, batch, recipe

from animeflow.flow.weight import Weight


def gradients(net: Added, whole, **options) -> tuple[torch.Tensor, ...]:
    return torch.autograd.grad(recipe(net, **options).loss(whole).loss, (net.up, net.down))


@pytest.mark.parametrize("prior", [0.0, 0.7])
def test_a_weight_of_a_quarter_is_a_quarter_of_the_loss_exactly(prior):
    net, one = Added(up=0.3), batch(slice(3, 4))
    quarter = replace(one, weights=torch.tensor([0.25]))
    for whole, part in zip(
        gradients(net, one, prior_weight=prior), gradients(net, quarter, prior_weight=prior), strict=True
    ):
        assert torch.equal(part, whole / 4) and whole.abs().max() > 0


@pytest.mark.parametrize("weight", [Weight(), Weight("x0")], ids=["v", "x0"])
def test_every_picture_has_its_own_and_what_is_reported_has_none(weight):
    net, whole = Added(up=0.3), batch()
    counts = torch.tensor([1, 0.25, 0, 2, 1, 0.5, 1, 3])
    asked = recipe(net, weight=weight, prior_weight=0.7)
    report, plain = asked.loss(replace(whole, weights=counts)), asked.loss(whole)
    expected = sum(counts[i] * asked.loss(batch(slice(i, i + 1))).loss for i in range(8))
    torch.testing.assert_close(report.loss, expected)
    assert torch.equal(report.loss_B, plain.loss_B) and torch.equal(report.parts["prior"], plain.parts["prior"])
    assert not torch.allclose(report.loss, plain.loss)


def test_weights_and_components_travel_with_the_batch():
    whole = replace(batch(), weights=torch.rand(8), components=torch.arange(8), names=("a",))
    moved = whole.to("meta")
    assert (moved.weights.device.type, moved.components.device.type, moved.names) == ("meta", "meta", ("a",))
    assert batch().to("meta").weights is None

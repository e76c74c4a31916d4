"""Merging adds what it says: linear in the weights, nothing at all for 0, DoRA by its formula; ranks side by side are exact."""

from __future__ import annotations

import pytest
import torch

from animeflow.core.errors import ConfigError, DataError
from animeflow.learn.merge import Weighted, changes, joined, merged
from animeflow.model.low_rank import LowRank


def base(seed: int = 0) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    weights = {"a.weight": torch.randn(6, 8, generator=draw), "b.weight": torch.randn(5, 3, 2, 2, generator=draw)}
    weights["a.weight"][0, 0] = -0.0
    return weights | {"a.bias": torch.randn(6, generator=draw), "norm.weight": torch.randn(6, generator=draw)}


def part(name: str, weight: float, *, seed: int, dora: bool = False, layers: str = "ab") -> Weighted:
    draw = torch.Generator().manual_seed(seed)
    state = {}
    if "a" in layers:
        length = torch.rand(6, generator=draw) + 1 if dora else None
        state["a"] = LowRank(torch.randn(3, 8, generator=draw), torch.randn(6, 3, generator=draw), 1.5, length)
    if "b" in layers:
        state["b"] = LowRank(torch.randn(2, 3, 2, 2, generator=draw), torch.randn(5, 2, 1, 1, generator=draw), 2.0)
    return Weighted(name, state, weight)


def test_the_sum_is_the_formula():
    weights, one, two = base(), part("one", 0.7, seed=1), part("two", -0.4, seed=2, layers="a")
    result = merged(weights, [one, two])
    by_hand = weights["a.weight"].double()
    for each in (one, two):
        low = each.state["a"]
        by_hand = by_hand + each.weight * (low.alpha / 3) * low.up.double() @ low.down.double()
    assert torch.equal(result["a.weight"], by_hand.float())
    low = one.state["b"]
    by_hand = torch.einsum("or,rihw->oihw", low.up[:, :, 0, 0].double(), low.down.double()) * 0.7 + weights["b.weight"]
    torch.testing.assert_close(result["b.weight"], by_hand.float(), rtol=1e-6, atol=1e-6)
    assert result["norm.weight"] is weights["norm.weight"] and result["a.bias"] is weights["a.bias"]


@pytest.mark.parametrize("dora", [False, True])
def test_it_is_linear_in_the_weight_and_nothing_at_zero(dora):
    weights = {name: tensor.double() for name, tensor in base().items()}
    state = part("one", 1.0, seed=1, dora=dora).state
    at = {w: merged(weights, [Weighted("one", state, w)]) for w in (0.0, 0.5, 1.0, 2.0)}
    for name, tensor in weights.items():
        change = at[1.0][name] - tensor
        for w in (0.5, 2.0):
            torch.testing.assert_close(at[w][name] - tensor, w * change, rtol=1e-10, atol=1e-12)
    untouched = merged(base(), [Weighted("one", state, 0.0)])
    assert all(untouched[name].numpy().tobytes() == tensor.numpy().tobytes() for name, tensor in base().items())


def test_a_dora_at_full_weight_has_the_lengths_it_learned():
    one = part("one", 1.0, seed=1, dora=True)
    result = merged({name: tensor.double() for name, tensor in base().items()}, [one])
    lengths = torch.linalg.vector_norm(result["a.weight"], dim=1)
    torch.testing.assert_close(lengths, one.state["a"].magnitude.double(), rtol=1e-10, atol=1e-12)


def test_changes_of_one_layer_are_measured_against_its_own_weight():
    """DoRA among them: each part's change is that of the part alone, so the order is nothing, and 0 nothing at all."""
    weights = base()
    one, two = part("one", 0.7, seed=1, dora=True), part("two", -0.4, seed=2)
    for layer in ("a", "b"):
        weight = weights[f"{layer}.weight"].bfloat16()
        additions = [(each.state[layer], each.weight) for each in (one, two)]
        found = changes(weight, additions)
        alone = [strength * (addition.applied(weight) - weight.double()) for addition, strength in additions]
        assert found.dtype == torch.float64 and found.shape == weight.shape
        torch.testing.assert_close(found, sum(alone), rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(found, changes(weight, additions[::-1]), rtol=1e-12, atol=1e-12)
        assert not changes(weight, [(addition, 0.0) for addition, _ in additions]).any()


def test_ranks_side_by_side_add_the_same():
    parts = [part("one", 0.7, seed=1), part("two", -0.4, seed=2, layers="a"), part("three", 0.0, seed=3)]
    one = joined(parts)
    assert one["a"].rank == 6 and one["a"].scale == 1.0 and one["b"].rank == 2
    expected = 0.7 * parts[0].state["a"].delta() - 0.4 * parts[1].state["a"].delta()
    error = torch.linalg.vector_norm(one["a"].delta() - expected) / torch.linalg.vector_norm(expected)
    assert float(error) < 2e-7
    assert torch.equal(merged(base(), parts)["norm.weight"], merged(base(), [Weighted("all", one)])["norm.weight"])


def test_what_cannot_be_merged_is_said():
    with pytest.raises(DataError, match="layers that the base lacks: c"):
        merged(base(), [Weighted("one", {"c": part("one", 1, seed=1).state["a"]})])
    with pytest.raises(DataError, match=r"a is 6 x 8 in one and 6 x 9 in the base"):
        merged(base() | {"a.weight": torch.zeros(6, 9)}, [part("one", 0.0, seed=1)])
    with pytest.raises(ConfigError, match="DoRA"):
        joined([part("one", 1.0, seed=1, dora=True), part("two", 1.0, seed=2)])
    with pytest.raises(ConfigError, match="every weight is 0"):
        joined([part("one", 0.0, seed=1)])
    other = LowRank(torch.randn(2, 9), torch.randn(6, 2), 2.0)
    with pytest.raises(DataError, match="a is 6 x 9 in two and 6 x 8 in one"):
        joined([part("one", 1.0, seed=1), Weighted("two", {"a": other})])

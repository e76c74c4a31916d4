"""Resizing is the best there is, by torch's singular values of the whole delta W; a rank that is there already changes nothing."""

from __future__ import annotations

import pytest
import torch

from animeflow.core.errors import ConfigError
from animeflow.learn.resize import kept_of_all, resize
from animeflow.learn.spectrum import distance, norm, spectrum
from animeflow.model.low_rank import LowRank


def addition(
    out: int, into: int, rank: int, *, alpha: float = 3.0, seed: int = 0, kernel: tuple[int, ...] = ()
) -> LowRank:
    draw = torch.Generator().manual_seed(seed)
    down = torch.randn(rank, into, *kernel, generator=draw, dtype=torch.float64)
    up = torch.randn(out, rank, *([1] * len(kernel)), generator=draw, dtype=torch.float64)
    return LowRank(down=down, up=up, alpha=alpha)


SHAPES = [(12, 20, 6, ()), (20, 12, 5, ()), (4, 30, 7, ()), (30, 4, 7, ()), (10, 3, 6, (2, 2))]


@pytest.mark.parametrize("out, into, rank, kernel", SHAPES)
def test_the_small_core_has_the_singular_values_of_the_whole(out, into, rank, kernel):
    low = addition(out, into, rank, kernel=kernel)
    whole = low.delta().flatten(1)
    expected = torch.linalg.svdvals(whole)
    found = spectrum(low)
    torch.testing.assert_close(found.values, expected[: len(found.values)], rtol=1e-10, atol=1e-12)
    assert float(expected[len(found.values) :].sum()) < 1e-10
    torch.testing.assert_close(found.left * found.values @ found.right, whole, rtol=1e-10, atol=1e-10)
    assert norm(low) == pytest.approx(float(torch.linalg.matrix_norm(whole)), rel=1e-12)


@pytest.mark.parametrize("out, into, rank, kernel", SHAPES)
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_what_is_lost_is_what_the_least_singular_values_hold(out, into, rank, kernel, size):
    """Eckart and Young: no matrix of this rank is nearer."""
    low = addition(out, into, rank, kernel=kernel)
    state, told = resize({"a": low}, rank=size)
    values = torch.linalg.svdvals(low.delta().flatten(1))
    best = float(values[size:].square().sum().sqrt())
    error = float(torch.linalg.vector_norm(low.delta() - state["a"].delta()))
    assert error == pytest.approx(best, rel=1e-8)
    assert told["a"].kept == pytest.approx(1 - best**2 / float(values.square().sum()), abs=1e-10)
    assert state["a"].rank <= size and state["a"].delta().shape == low.delta().shape


def test_a_rank_that_is_there_changes_no_number():
    state = {"a": addition(12, 20, 6), "b": addition(9, 9, 3, seed=1)}
    for rank in (6, 64):
        after, told = resize(state, rank=rank)
        assert all(after[name] is state[name] for name in state)
        assert kept_of_all(told) == 1.0


def test_the_least_rank_that_keeps_a_share_is_taken():
    low = addition(12, 20, 6)
    squares = torch.linalg.svdvals(low.delta()).square()
    shares = squares.cumsum(0) / squares.sum()
    for keep in (0.3, 0.6, 0.9, 0.99, 1.0):
        after, told = resize({"a": low}, keep=keep)
        rank = int((shares < keep - 1e-12).sum()) + 1
        assert after["a"].rank == rank
        assert told["a"].kept >= keep - 1e-9
        assert rank == 1 or float(shares[rank - 2]) < keep


def test_scale_dtype_and_lengths_stay():
    low = addition(12, 20, 6, alpha=3.0)
    low = LowRank(low.down.bfloat16(), low.up.bfloat16(), 3.0, magnitude=torch.rand(12))
    after = resize({"a": low}, rank=2)[0]["a"]
    assert after.scale == low.scale and after.down.dtype == torch.bfloat16
    assert torch.equal(after.magnitude, low.magnitude)


def test_a_layer_that_adds_nothing_shrinks_to_one():
    low = addition(12, 20, 6)
    empty = LowRank(low.down, torch.zeros_like(low.up), 3.0)
    after, told = resize({"a": empty}, keep=0.9)
    assert after["a"].rank == 1 and told["a"].kept == 1.0 and not after["a"].delta().any()


def test_distance_is_that_of_the_whole_matrices():
    a, b = addition(12, 20, 6), addition(12, 20, 3, seed=4)
    assert distance(a, b) == pytest.approx(float(torch.linalg.matrix_norm(a.delta() - b.delta())), rel=1e-12)
    near = LowRank(a.down * (1 + 1e-9), a.up, a.alpha)
    assert distance(a, near) / norm(a) == pytest.approx(1e-9, rel=1e-3)
    assert distance(a, addition(12, 21, 6)) == float("inf")


@pytest.mark.parametrize("options", [{}, {"rank": 1, "keep": 0.5}, {"rank": 0}, {"keep": 0.0}, {"keep": 1.5}])
def test_what_makes_no_sense_is_said(options):
    with pytest.raises(ConfigError, match=r"rank|share"):
        resize({"a": addition(4, 4, 2)}, **options)

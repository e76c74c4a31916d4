"""Any width after the run: the factors against integrals summed by hand, and averages of walks that were really taken."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from animeflow.core.errors import DataError
from animeflow.optim.posthoc import GOOD, Fit, Profile, combine, fit, good_range, inner_product
from animeflow.optim.power_ema import PowerEMA, gamma_of

BATCH = 8


def stored(count: int, *, images: int = 4096, widths: tuple[float, ...] = (0.05, 0.10)) -> list[Profile]:
    return [Profile(images * k / count, width) for width in widths for k in range(1, count + 1)]


def profile_on(t: Tensor, of: Profile) -> Tensor:
    gamma = gamma_of(of.sigma_rel)
    return torch.where(t <= of.images, (gamma + 1) / of.images * (t / of.images).clamp(max=1) ** gamma, 0)


def middle_points(images: float, count: int = 400_000) -> Tensor:
    return (torch.arange(count, dtype=torch.float64) + 0.5) / count * images


def test_inner_products_are_the_integrals() -> None:
    pairs = [
        (Profile(300, 0.05), Profile(1000, 0.10)),
        (Profile(1000, 0.07), Profile(1000, 0.2)),
        (Profile(5, 0.1),) * 2,
    ]
    for a, b in pairs:
        t = middle_points(max(a.images, b.images))
        integral = (profile_on(t, a) * profile_on(t, b)).mean() * max(a.images, b.images)
        ours = inner_product(
            *(torch.tensor(v, dtype=torch.float64) for p in (a, b) for v in (p.images, gamma_of(p.sigma_rel)))
        )
        assert ours.item() == pytest.approx(integral.item(), rel=1e-6)


@pytest.mark.parametrize("images", [4096, 3e9])
def test_the_factors_solve_the_least_squares_of_profiles_laid_on_a_grid(images: float) -> None:
    """An independent way to the same factors: the best sum of sampled profiles, with no closed form."""
    profiles, target = stored(6, images=images), Profile(images, 0.07)
    t = middle_points(images, 100_000)
    columns = torch.stack([profile_on(t, p) for p in profiles], dim=1) * images
    best = torch.linalg.lstsq(columns, profile_on(t, target)[:, None] * images).solution[:, 0]
    found = fit(profiles, target)
    torch.testing.assert_close(
        torch.tensor(found.weights, dtype=torch.float64), best / best.sum(), rtol=1e-3, atol=1e-4
    )
    miss = (columns @ torch.tensor(found.weights, dtype=torch.float64) - profile_on(t, target) * images).norm()
    assert found.misfit == pytest.approx((miss / (profile_on(t, target) * images).norm()).item(), rel=1e-3)


@pytest.mark.parametrize("count", [4, 16, 64])
@pytest.mark.parametrize("width", [0.01, 0.03, 0.0501, 0.07, 0.2, 0.28])
def test_the_factors_sum_to_one(count: int, width: float) -> None:
    assert sum(fit(stored(count), Profile(4096, width)).weights) == pytest.approx(1, abs=1e-9)


def test_what_is_stored_is_taken_as_it_is_and_what_lies_beside_it_nearly() -> None:
    profiles = stored(8)
    for at, profile in enumerate(profiles):
        assert fit(profiles, profile) == Fit(tuple(float(i == at) for i in range(16)), 0.0, 0.0, 1.0)
        near = fit(profiles, Profile(profile.images, profile.sigma_rel * (1 + 1e-9)))  # now solved for
        assert near.weights[at] == pytest.approx(1, abs=1e-5)
        assert max(abs(w) for i, w in enumerate(near.weights) if i != at) < 1e-5


def walk(count: int, widths: tuple[float, ...]) -> tuple[list[dict[str, Tensor]], PowerEMA]:
    """Snapshots, at `count` times, of the first two widths of a random walk; and the averages of all widths at its end."""
    module = nn.Linear(32, 8)
    ema = PowerEMA(module, sigma_rels=widths)
    draw = torch.Generator().manual_seed(0)
    steps, snapshots = 512, {width: [] for width in widths[:2]}
    with torch.no_grad():
        for step in range(1, steps + 1):
            for p in module.parameters():
                p.add_(torch.randn(p.shape, generator=draw))
            ema.update(BATCH * step, BATCH)
            if step % (steps // count) == 0:
                for width, kept in snapshots.items():
                    kept.append({name: t.clone() for name, t in ema.group(width).items()})
    return [snapshot for kept in snapshots.values() for snapshot in kept], ema


def distance(found: dict[str, Tensor], true: dict[str, Tensor]) -> float:
    return (
        (sum((found[n] - true[n]).square().sum() for n in true) / sum(t.square().sum() for t in true.values()))
        .sqrt()
        .item()
    )


@pytest.mark.parametrize(("count", "error"), [(16, 0.005), (32, 0.001)])
def test_a_walk_is_rebuilt_from_snapshots(count: int, error: float) -> None:
    targets = (0.04, 0.06, 0.08, 0.15)
    snapshots, ema = walk(count, (0.05, 0.10, *targets))
    for width in targets:
        found = fit(stored(count), Profile(4096, width))
        far = distance(combine(snapshots, found.weights), ema.group(width))
        assert far < error
        # The last snapshot of the nearest stored width would be much farther away.
        nearest = snapshots[count - 1 if abs(width - 0.05) < abs(width - 0.1) else -1]
        assert far < 0.2 * distance(nearest, ema.group(width))


def test_the_expected_error_is_that_of_a_walk() -> None:
    """Coarse snapshots, so that the error is well above the rounding of time into steps."""
    snapshots, ema = walk(4, (0.05, 0.10, 0.03, 0.2))
    for width in (0.03, 0.2):
        found = fit(stored(4), Profile(4096, width))
        far = distance(combine(snapshots, found.weights), ema.group(width))
        assert found.expected_error == pytest.approx(far, rel=0.5)


def test_more_snapshots_fit_better_and_a_rounding_grows_with_the_factors() -> None:
    errors = [fit(stored(count), Profile(4096, 0.07)).expected_error for count in (4, 8, 16, 32)]
    assert errors == sorted(errors, reverse=True)
    narrow = fit(stored(16), Profile(4096, 0.02))
    draw = torch.Generator().manual_seed(1)
    noise = [{"w": torch.randn(4000, generator=draw)} for _ in narrow.weights]
    assert combine(noise, narrow.weights)["w"].std().item() == pytest.approx(narrow.growth, rel=0.05)


def test_the_good_range_holds_the_stored_widths_and_ends_where_the_error_passes_the_limit() -> None:
    found = good_range(stored(16), 4096)
    assert found is not None
    low, high = found
    assert low < 0.05 and high > 0.10
    assert (
        fit(stored(16), Profile(4096, low)).expected_error
        <= GOOD
        < fit(stored(16), Profile(4096, low - 0.005)).expected_error
    )
    assert (
        fit(stored(16), Profile(4096, high)).expected_error
        <= GOOD
        < fit(stored(16), Profile(4096, high + 0.005)).expected_error
    )


def test_one_snapshot_at_a_time_is_asked_for() -> None:
    alive: list[int] = []

    class Counted(dict):
        def __init__(self, *args) -> None:
            super().__init__(*args)
            alive.append(1)

        def __del__(self) -> None:
            alive.pop()

    most = 0

    def lazily():
        nonlocal most
        for i in range(5):
            snapshot = Counted({"w": torch.full((2,), float(i))})
            most = max(most, len(alive))
            yield snapshot
            del snapshot

    total = combine(lazily(), [0.0, 0.25, 0.25, 0.25, 0.25])
    assert total["w"].tolist() == [2.5, 2.5]
    assert most == 1


def test_snapshots_that_do_not_belong_together_are_refused() -> None:
    one, two = {"a": torch.ones(2)}, {"a": torch.ones(2), "b": torch.ones(1)}
    with pytest.raises(DataError, match="different parameters: 1 differ, b first"):
        combine([one, two], [0.5, 0.5])
    with pytest.raises(DataError, match="1 snapshots for 2 weights"):
        combine([one], [0.5, 0.5])
    with pytest.raises(DataError, match="more snapshots than the 1 weights"):
        combine([one, one], [1.0])
    with pytest.raises(DataError, match="no finite number"):
        combine([{"a": torch.tensor([1e6]).half()}], [1.0])


def test_sixteen_bits_are_summed_in_thirty_two() -> None:
    parts = [{"w": torch.full((3,), 1 + 2**-10).half()} for _ in range(4)]
    total = combine(parts, [0.25] * 4)
    assert total["w"].dtype == torch.float32
    assert torch.equal(total["w"], torch.full((3,), 1 + 2**-10))

"""Any power average of the weights out of a few stored ones. Knows times, widths and tensors; knows no file and no loop.

Karras et al., arXiv 2312.02696, section 3.2: the average of width gamma at time T weighs the weights of time t <= T by the profile
p(t) = (gamma + 1) t^gamma / T^(gamma + 1). A sum of stored averages has the sum of their profiles, so the factors x that bring
this sum nearest to a wanted profile p* solve A x = b, with A_ij = <p_i, p_j>, b_i = <p_i, p*> and closed-form inner products.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.errors import DataError
from .power_ema import WIDEST, gamma_of

GOOD = 0.005  # expected error up to which a fit is called good
_GRID = 4096  # points of time on which the expected error is summed


@dataclass(frozen=True)
class Profile:
    """The average of width `sigma_rel` as it was after `images`."""

    images: float
    sigma_rel: float


@dataclass(frozen=True)
class Fit:
    """Factors of the stored averages, and how near their sum is.

    Attributes:
        weights: one per stored average, with the sum 1.
        misfit: distance of the two profiles, as a share of the wanted one's norm.
        expected_error: of the weights, as a share of their own size, if they walked at random: steps of one size and any direction.
        growth: how many times the rounding of one stored average is in the result.
    """

    weights: tuple[float, ...]
    misfit: float
    expected_error: float
    growth: float


def fit(stored: Sequence[Profile], target: Profile) -> Fit:
    """How `target` is made of the averages that are stored, at least one. What is stored itself is taken as it is."""
    if target in stored:
        at = stored.index(target)
        return Fit(tuple(float(i == at) for i in range(len(stored))), 0.0, 0.0, 1.0)
    T, gamma = _columns(stored, scale=target.images)
    T_star, gamma_star = _columns([target], scale=target.images)
    A = inner_product(T[:, None], gamma[:, None], T, gamma)
    b = inner_product(T, gamma, T_star, gamma_star)
    # Profiles of length 1 make a better conditioned system; the driver takes the shortest solution where two are nearly alike.
    length = A.diagonal().sqrt()
    scaled = torch.linalg.lstsq(A / length / length[:, None], (b / length)[:, None], driver="gelsd").solution[:, 0]
    x = scaled / length
    x = x / x.sum()
    whole = inner_product(T_star, gamma_star, T_star, gamma_star)[0]
    misfit = ((x @ A @ x - 2 * b @ x + whole).clamp(min=0) / whole).sqrt().item()
    return Fit(tuple(x.tolist()), misfit, _walk_error(x, T, gamma, gamma_star), x.square().sum().sqrt().item())


def inner_product(T_a: Tensor, gamma_a: Tensor, T_b: Tensor, gamma_b: Tensor) -> Tensor:
    """Integral of the product of two profiles over time. In logarithms, since powers of image counts pass every number format."""
    power = gamma_a + gamma_b + 1
    logarithm = power * torch.minimum(T_a, T_b).log() - (gamma_a + 1) * T_a.log() - (gamma_b + 1) * T_b.log()
    return (gamma_a + 1) * (gamma_b + 1) / power * logarithm.exp()


def good_range(stored: Sequence[Profile], images: float) -> tuple[float, float] | None:
    """The narrowest and the widest average at `images` that these make with an expected error up to `GOOD`, in steps of 0.005."""
    widths = [i * 0.005 for i in range(1, int(WIDEST / 0.005) + 1)]
    good = [width for width in widths if fit(stored, Profile(images, width)).expected_error <= GOOD]
    return (good[0], good[-1]) if good else None


def combine(
    snapshots: Iterable[Mapping[str, Tensor]], weights: Sequence[float], *, dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """The sum of `weights` times `snapshots`, in `dtype`. Takes one snapshot after the other: a lazy iterable keeps one in memory.

    Raises:
        DataError: the snapshots hold different tensors, are fewer or more than the weights, or hold what is no number."""
    total: dict[str, Tensor] = {}
    rest = list(weights)
    for snapshot in snapshots:
        if not rest:
            raise DataError(f"there are more snapshots than the {len(weights)} weights for them")
        weight = rest.pop(0)
        if total and total.keys() != snapshot.keys():
            different = sorted(total.keys() ^ snapshot.keys())
            raise DataError(f"the snapshots are of different parameters: {len(different)} differ, {different[0]} first")
        for name in snapshot:
            value = snapshot[name].to(dtype)
            if not bool(value.isfinite().all()):
                raise DataError(
                    f"a snapshot of {name} holds what is no finite number",
                    why="16 bits of fp16 end at 65504, or the training had diverged",
                    do="keep snapshots with train.ema.snapshot_dtype=bf16 or fp32",
                )
            total[name] = total[name].add_(value, alpha=weight) if name in total else value * weight
        del snapshot  # before the next one is read
    if rest:
        raise DataError(f"there are {len(weights) - len(rest)} snapshots for {len(weights)} weights")
    return total


def _columns(profiles: Sequence[Profile], *, scale: float) -> tuple[Tensor, Tensor]:
    """Times as shares of `scale`, and gammas."""
    times = torch.tensor([profile.images / scale for profile in profiles], dtype=torch.float64)
    return times, torch.tensor([gamma_of(profile.sigma_rel) for profile in profiles], dtype=torch.float64)


def _walk_error(x: Tensor, T: Tensor, gamma: Tensor, gamma_star: Tensor) -> float:
    """A step at time t of a random walk enters an average with the share of its profile that lies after t."""
    t = (torch.arange(_GRID, dtype=torch.float64) + 0.5) / _GRID
    after = 1 - (t[:, None] / T).clamp(max=1) ** (gamma + 1)
    wanted = 1 - t ** (gamma_star + 1)
    return ((after @ x - wanted).square().sum() / wanted.square().sum()).sqrt().item()

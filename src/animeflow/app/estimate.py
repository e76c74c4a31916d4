"""How long a run takes and what it costs, from the arithmetic of a picture and a share of the chip. Every figure is an estimate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..image.bucket import Bucket
from ..train.board import duration
from .machines import Gpu, Machines

# Recomputing all activations is a forward pass more, which counts as no useful work: of three passes four are done.
USEFUL = {"none": 1.0, "selective": 1.0, "budget": 1.0, "full": 0.75}


@dataclass(frozen=True)
class Speed:
    """Of one GPU."""

    images_per_second: float
    mfu: float

    def gpu_hours(self, images: int) -> float:
        return images / self.images_per_second / 3600


def picture_flops(fam: Any, shares: Mapping[Bucket, float], *, over_base: bool = False, prior: bool = False) -> float:
    """FLOP of both passes of one picture with a full prompt: the mean over sizes with their shares.

    Args:
        over_base, prior: see `Work.of_step`.
    """
    tokens = fam.text_tokens
    works = {b: fam.work(height=b.height, width=b.width, text_tokens=tokens) for b in shares}
    flops = {bucket: work.of_step(over_base=over_base, prior=prior) for bucket, work in works.items()}
    return sum(flops[bucket] * share for bucket, share in shares.items()) / sum(shares.values())


def speed_at(mfu: float, flops: float, gpu: Gpu) -> Speed:
    """Images a second at a share of the chip's peak."""
    return Speed(mfu * gpu.peak_tflops * 1e12 / flops, mfu)


def speed_of(images_per_second: float, flops: float, gpu: Gpu) -> Speed:
    """The share of the chip that a measured rate is."""
    return Speed(images_per_second, images_per_second * flops / (gpu.peak_tflops * 1e12))


def price(hours: float, of: tuple[float, float]) -> tuple[float, float]:
    """US dollars, low and high, of so many GPU-hours."""
    return hours * of[0], hours * of[1]


def arithmetic(flops: float) -> str:
    """`33.74 TFLOP`, `9.47 GFLOP`."""
    return f"{flops / 1e12:,.2f} TFLOP" if flops >= 1e11 else f"{flops / 1e9:,.2f} GFLOP"


def money(low_high: tuple[float, float]) -> str:
    """`$56 to $98`; cents only below ten."""
    low, high = (f"${value:,.2f}" if value < 10 else f"${value:,.0f}" for value in low_high)
    return f"{low} to {high}"


def expected(
    machines: Machines,
    *,
    flops: float,
    images: int,
    world: int,
    activation_memory: str,
    price_per_hour: tuple[float, float] | None = None,
) -> dict[str, str]:
    """A line per GPU at the share of the chip that the file names."""
    share = machines.mfu * USEFUL[activation_memory]
    lines = {}
    for name, gpu in machines.gpus.items():
        speed = speed_at(share, flops, gpu)
        hours = speed.gpu_hours(images)
        cost = money(price(hours, price_per_hour or gpu.price))
        lines[f"{world} x {name}"] = (
            f"{speed.images_per_second * world:,.1f} images/s ({speed.images_per_second:.2f} each), "
            f"{hours:{',.0f' if hours >= 10 else '.2g'}} GPU-hours in {duration(3600 * hours / world)}, {cost}"
        )
    return lines


def compared(machines: Machines, *, flops: float, images: int) -> dict[str, str]:
    """What other shares of the first GPU's peak would come to."""
    gpu = next(iter(machines.gpus.values()))
    speeds = [speed_at(share, flops, gpu) for share in machines.mfu_compared]
    return {
        f"{100 * speed.mfu:.3g} %": f"{speed.images_per_second:.2f} images/s each, {speed.gpu_hours(images):,.0f} GPU-hours"
        for speed in speeds
    }

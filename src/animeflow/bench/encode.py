"""Pictures to latents a second: the codec in bf16 and channels-last, against itself in float32 and under autocast, by turns.

Knows codecs by protocol; knows no file. Pictures are random and lie on the device: decoding them is `bench images`.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..core import seed as keyed
from ..core.errors import ConfigError
from ..image.bucket import Bucket
from ..model.protocol import Codec, Family
from ..train.settings import Settings
from . import machine
from .loop import synchronize


@dataclass(frozen=True)
class EncodeJob:
    """What is encoded with what.

    Attributes:
        family: whose codec works.
        buckets: sizes of pictures; the one with most pixels is measured.
        batch: pictures at once.
        settings: of the run; only its device matters.
    """

    family: Family
    buckets: Sequence[Bucket]
    batch: int
    settings: Settings


def run(job: EncodeJob, *, against: str | None = None, rounds: int = 5) -> dict[str, Any]:
    """Latents a second of every way, and how far the low ones are from float32. JSON.

    Raises:
        ConfigError: no rounds, a peer is named, or there is no CUDA device where one is asked for.
    """
    if against is not None:
        raise ConfigError("encode has no peer to name: it always measures all ways", where="--against")
    if rounds < 1:
        raise ConfigError(f"{rounds} rounds measure nothing", where="--rounds", do="use 5")
    job.settings.require_device(cuda=torch.cuda.is_available())
    device = torch.device("cuda" if job.settings.device != "cpu" and torch.cuda.is_available() else "cpu")
    bucket = max(job.buckets, key=lambda each: (each.pixels, -abs(each.log_aspect)))
    pixels = _pictures(bucket, job.batch).to(device)
    ways = _ways(job.family.codec(), device)
    latents = {name: way(pixels) for name, way in ways.items()}  # also chooses kernels
    seconds = _by_turns(ways, pixels, rounds, device)
    rates = {name: job.batch / statistics.median(values) for name, values in seconds.items()}
    return {
        "bench": "encode",
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine.facts(device),
        "job": {
            "family": f"{job.family.name}/{job.family.flavour}",
            "size": str(bucket),
            "batch": job.batch,
            "data": "random pictures on the device: decoding and writing are not measured",
        },
        "rounds": rounds,
        "latents_per_second": rates,
        "ratio": {name: rates["bf16, channels last"] / rate for name, rate in rates.items()},
        "seconds_of_rounds": seconds,
        "peak_memory_gib": torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None,
        "distance_from_float32": {name: _distance(found, latents["float32"]) for name, found in latents.items()},
    }


def lowered(codec: Codec) -> Codec:
    """A copy whose networks compute in bf16, on channels that lie together: what tensor cores want of convolutions."""
    codec = copy.deepcopy(codec)
    for network in (part for part in vars(codec).values() if isinstance(part, nn.Module)):
        for tensor in (*network.parameters(), *network.buffers()):
            if tensor.is_floating_point():
                layout = torch.channels_last if tensor.ndim == 4 else torch.preserve_format
                tensor.data = tensor.data.to(torch.bfloat16, memory_format=layout)
    return codec


def _ways(codec: Codec, device: torch.device) -> dict[str, Callable[[Tensor], Tensor]]:
    """The first is ours, the second the module as it is."""
    low, plain = lowered(codec).to(device), codec.to(device)

    def autocast(pixels: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            return plain.encode(pixels)

    def channels_last(pixels: Tensor) -> Tensor:
        return low.encode(pixels.contiguous(memory_format=torch.channels_last))

    return {"bf16, channels last": channels_last, "float32": plain.encode, "autocast": autocast}


@torch.no_grad()
def _by_turns(
    ways: dict[str, Callable[[Tensor], Tensor]], pixels: Tensor, rounds: int, device: torch.device
) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            synchronize(device)
            start = time.perf_counter()
            way(pixels)
            synchronize(device)
            seconds[name].append(time.perf_counter() - start)
    return seconds


def _pictures(bucket: Bucket, count: int) -> Tensor:
    """Smooth random colours `[B, 3, H, W]` in [-1, 1]."""
    small = keyed.normal((count, 3, bucket.height // 16, bucket.width // 16), "bench pictures")
    size = (bucket.height, bucket.width)
    return nn.functional.interpolate(small, size=size, mode="bilinear").tanh()


def _distance(found: Tensor, exact: Tensor) -> float:
    """Root mean square difference beside the scale of the exact ones."""
    return float((found.float() - exact).norm() / exact.norm())

"""Five training steps of a small model on the device that a run would use: the parts work together, the loss is a number."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from ..compose import compose
from ..jobs import step_job
from .finding import Finding, error, ok
from .presets import presets

NAME, STEPS = "training steps", 5


def judge(losses: list[float], seconds: list[float], device: str, model: str) -> Finding:
    """`seconds` of each step; the first, which warms up, is left out of the speed."""
    steady = sorted(seconds[1:] or seconds)[len(seconds[1:] or seconds) // 2]
    what = f"{len(losses)} of {model} on {device}: loss {losses[0]:.3f} to {losses[-1]:.3f}, {steady:.2f} s a step"
    if not all(math.isfinite(loss) for loss in losses):
        return error(
            NAME, what, why="a loss that is no number teaches nothing: this torch, driver or GPU computes wrongly",
            do="pip install --upgrade torch",
        )  # fmt: skip
    return ok(NAME, what)


def look(config: Mapping[str, Any]) -> list[Finding]:
    """With the small flavour of the family that the settings choose."""
    import torch

    from ...bench.loop import synchronize
    from ...bench.random_data import RandomData, some_sizes
    from ...bench.step import awake, ours

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = _small(config)
    low = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    words = [f"model={model}", "data=toonworld", "data.loader.batch=4", "data.loader.micro_batch=4", "train=cpu"]
    words += [f"train.device={device.type}", f"train.precision={'bf16' if low else 'fp32'}"]
    job = step_job(compose(words))
    dtype = torch.bfloat16 if low else torch.float32
    data = RandomData(
        job.family, some_sizes(job.buckets)[:1], images=job.images, micro_batch=job.micro_batch,
        tokens=job.family.text_tokens, dtype=dtype, prepare=job.recipe(None).prepare,
    )  # fmt: skip
    side, losses, seconds = ours(job, awake(job.family.backbone()), device), [], []
    with side.around():
        for number in range(STEPS):
            start = time.perf_counter()
            losses.append(float(side.step([batch.to(device) for batch in data.round(number)[0]])))
            synchronize(device)
            seconds.append(time.perf_counter() - start)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU"
    return [judge(losses, seconds, name, model)]


def _small(config: Mapping[str, Any]) -> str:
    """The preset of the same family that names no weights, else the default one."""
    small = {name: node["family"] for name, node in presets().items() if node.get("weights") is None}
    return next((name for name, family in small.items() if family == config["model"]["family"]), next(iter(small)))

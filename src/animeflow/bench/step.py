"""Whole optimizer steps of a run on one device: pictures a second, share of the chip, memory, and a peer in the same process.

Inputs are random and lie ready, so a loader is not a part of this; weights may be random, too: neither changes what a step costs.
"""

from __future__ import annotations

import copy
import logging
import statistics
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ..core import seed as keyed
from ..core.errors import ConfigError, did_you_mean
from ..optim.power_ema import PowerEMA
from ..train.settings import Settings
from ..train.speed import Speed
from . import machine
from .job import Job
from .loop import Measured, Side, allocated, flops, kernels, timed_round, warm_up
from .random_data import RandomData, some_sizes
from .stock import stock

log = logging.getLogger(__name__)

PEERS = ("stock", "bf16")
WARM_UP = 2  # rounds: the second finds every size compiled


def run(job: Job, *, against: str | None = None, rounds: int = 5) -> dict[str, Any]:
    """Measure the step, alone or interleaved A, B, A, B with a peer. JSON.

    Raises:
        ConfigError: no such peer, no rounds, or there is no CUDA device where one is asked for.
    """
    _check(job, against, rounds)
    device = _device(job)
    low = job.settings.precision == "bf16"
    dtype = torch.bfloat16 if low else torch.float32
    tokens = job.family.text_tokens
    pristine = learning(job)
    data = RandomData(
        job.family,
        some_sizes(job.buckets),
        images=job.images,
        micro_batch=job.micro_batch,
        tokens=tokens,
        dtype=dtype,
        prepare=job.recipe(pristine).prepare,
        seed=job.seed,
        pin=device.type == "cuda",
        prior=job.prior,
    )
    peak = machine.gemm_peak(device, dtype)
    makers = {"ours": lambda: ours(job, pristine, device)}
    if against == "stock":
        makers["stock"] = lambda: stock(job, job.family, pristine, device)
    elif against == "bf16":
        makers["bf16"] = lambda: ours(job, pristine, device, name="bf16")
    sides, told, order = _measured(makers, data, rounds, device)
    work = flops(job.family, data, tokens)
    report = {
        "bench": "step",
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine.facts(device),
        "gemm_peak": peak,
        "peak_tflops": _tera(machine.peak_flops(machine.device_name(device))),
        "job": _job(job, data, tokens),
        "rounds": rounds,
        "order": order,
    }
    for name, measured in sides.items():
        report[name] = _side(measured, data, work, report) | told[name]
    if against:
        # Each round compared within itself: a machine that is shared is now fast and now slow.
        pairs = zip(sides[against].seconds, sides["ours"].seconds, strict=True)
        report["ratio"] = statistics.median(theirs / mine for theirs, mine in pairs)
    return report


def ours(job: Job, pristine: nn.Module, device: torch.device, *, name: str = "ours") -> Side:
    """The trainer's parts on a copy of the weights."""
    settings = replace(job.settings, fp8=False) if name == "bf16" else job.settings
    module = copy.deepcopy(pristine).to(device)
    speed = chosen(job, settings, device)
    speed.prepare(module)
    for line in speed.lines():
        log.info("%s: %s", name, line)
    return Side(
        name,
        module,
        recipe=job.recipe,
        optimizer=job.optim.build(module),
        ema=PowerEMA(module, sigma_rels=settings.ema.sigma_rels),
        low=settings.precision == "bf16",
        clip=settings.clip,
        speed=speed,
    )


def chosen(job: Job, settings: Settings, device: torch.device) -> Speed:
    """As for a run over these sizes."""
    tokens, sizes = job.family.text_tokens, some_sizes(job.buckets)
    works = [job.family.work(height=size.height, width=size.width, text_tokens=tokens) for size in sizes]
    *others, largest = sorted(works, key=lambda work: work.forward)
    also = [call for work in others for call in work.attention]
    return Speed(settings, calls=largest.attention, also=also, batch=job.micro_batch, device=device)


def learning(job: Job) -> nn.Module:
    """What learns, with no layer asleep."""
    module = awake(job.family.backbone())
    if job.additions is not None:
        job.additions(module)
        awake(module)
    return module


@torch.no_grad()
def awake(backbone: nn.Module) -> nn.Module:
    """The module, with noise in place of every tensor that is zero: a network that starts as the identity has no gradient in most
    of its layers, and two loops over it would agree whatever they compute."""
    for name, parameter in backbone.named_parameters():
        if parameter.requires_grad and not parameter.any():
            parameter.copy_(0.02 * keyed.normal(tuple(parameter.shape), "awake", name))
    return backbone


def _measured(
    makers: Mapping[str, Any], data: RandomData, rounds: int, device: torch.device
) -> tuple[dict[str, Measured], dict[str, Any], str]:
    """Every side over every round: in turns while all fit the device together, else one after another."""
    found = {name: Measured() for name in makers}
    told: dict[str, Any] = {}
    sides: dict[str, Side] = {}
    apart = False
    for name, make in makers.items():
        before = allocated(device)
        sides[name] = make()
        warm_up(sides[name], data, found[name], rounds=WARM_UP)
        told[name] = {"kernels": kernels(sides[name], data.round(WARM_UP)[0]), "attention": _attention(sides[name])}
        found[name].resident = allocated(device) - before
        apart = apart or (len(makers) > 1 and not _fits_twice(device))
        if apart:
            for number in range(rounds):
                timed_round(sides[name], data.round(WARM_UP + number), found[name])
            sides.clear()
            _free(device)
    for number in range(rounds):
        for name, side in sides.items():
            others = sum(found[other].resident for other in sides if other != name)
            timed_round(side, data.round(WARM_UP + number), found[name], others=others)
    names = " and ".join(makers)
    order = "alone" if len(makers) == 1 else "one after another" if apart else "in turns"
    return found, told, f"{names}, {order}"


def _attention(side: Side) -> dict[str, Any] | str:
    """The kernel and what was tried."""
    return side.speed.kernel.record() if side.speed and side.speed.kernel else "as torch chooses"


def _fits_twice(device: torch.device) -> bool:
    """Whether a second side may lie beside the first: one that keeps more than a compiled one does."""
    if device.type != "cuda":
        return True
    total = torch.cuda.get_device_properties(device).total_memory
    return 2.3 * torch.cuda.max_memory_allocated(device) < total


def _free(device: torch.device) -> None:
    if device.type == "cuda":
        torch._dynamo.reset()
        torch.cuda.empty_cache()


def _side(measured: Measured, data: RandomData, work: float, report: Mapping[str, Any]) -> dict[str, Any]:
    rate = work / measured.median / 1e12
    images = len(data.sizes) * data.images
    peak = report["peak_tflops"]
    return {
        "images_per_second": images / measured.median,
        "seconds_per_step": measured.median / len(data.sizes),
        "seconds_of_rounds": measured.seconds,
        "tflops": rate,
        "mfu": rate / peak if peak else None,
        "share_of_gemm_peak": rate / report["gemm_peak"]["tflops"],
        "peak_memory_gib": measured.peak_memory / 2**30 if measured.peak_memory else None,
        "stall_share": sum(measured.waits) / sum(measured.seconds),
        "recompiles_after_warmup": measured.graphs,
        "warmup_seconds": measured.warmup_seconds,
        "losses": measured.losses,
    }


def _job(job: Job, data: RandomData, tokens: int) -> dict[str, Any]:
    settings = job.settings
    return {
        "name": job.name,
        "family": f"{job.family.name}/{job.family.flavour}",
        "images_per_step": job.images,
        "micro_batch": job.micro_batch,
        "sizes": [str(bucket) for bucket in data.sizes],
        "text_tokens": tokens,
        "padding_share": data.padding_share,
        "data": "random, ready in memory: neither loader nor encoders are measured",
        "optimizer": type(job.optim).__name__,
        "averages": len(settings.ema.sigma_rels),
        **{key: getattr(settings, key) for key in ("precision", "compile", "attention", "activation_memory", "fp8")},
    }


def _check(job: Job, against: str | None, rounds: int) -> None:
    if against is not None and against not in PEERS:
        raise ConfigError(
            f"unknown peer '{against}'{did_you_mean(against, PEERS)}", where="--against", do="use stock or bf16"
        )
    if against == "bf16" and not job.settings.fp8:
        raise ConfigError("this run computes in bf16 itself", where="--against", do="set train.fp8=true")
    if against == "stock" and job.additions is not None:
        raise ConfigError(
            "the peer trains every weight, and this run additions only", where="--against", do="measure the step alone"
        )
    if rounds < 1:
        raise ConfigError(f"{rounds} rounds measure nothing", where="--rounds", do="use 5")
    job.settings.require_device(cuda=torch.cuda.is_available())


def _device(job: Job) -> torch.device:
    return torch.device("cuda" if job.settings.device != "cpu" and torch.cuda.is_available() else "cpu")


def _tera(value: float | None) -> float | None:
    return None if value is None else value / 1e12

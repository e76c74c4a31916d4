"""What a run would need and show: memory, time and money, exposure. Estimates, each of which says that it is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..data.exposure import Line
from ..image.bucket import Bucket
from ..train.board import duration
from .estimate import arithmetic, compared, expected, money, picture_flops, price, speed_of
from .exposure import Exposure, exposure
from .jobs import step_job
from .learner import add, lora_settings
from .machines import Machines, read_machines, require_range
from .memory import Activations, Counted, activations, by_kind, counted
from .wiring import Config, bucket_plan, prior_weight, train_settings

Sections = dict[str, dict[str, Any]]
SHOWN = 12  # buckets


def outlook(config: Config, fam: Any, *, measure: bool = False) -> Sections:
    """The sections `memory`, `time and money` and `exposure`."""
    machines, shown = _machines(config), exposure(config)
    settings, buckets = train_settings(config), bucket_plan(config).buckets
    outline = _outline(config, fam)
    learner = counted(fam, outline=outline)  # before `activations`, which changes the outline
    found = activations(fam, buckets, settings, outline=outline)
    if prior_weight(config):  # the passes under both captions wait for one backward pass
        found = replace(found, picture=2 * found.picture)
    return {
        "memory of one process, estimated": _memory(config, learner, found, machines),
        "time and money, estimated": _time(config, fam, shown, machines, measure=measure),
        "exposure": told(config, shown),
    }


def _machines(config: Config) -> Machines:
    """Without the GPUs of homes where several processes train together."""
    machines = read_machines()
    if (config["train"]["processes"] or 1) == 1:
        return machines
    return replace(machines, gpus={name: gpu for name, gpu in machines.gpus.items() if not gpu.home})


def _outline(config: Config, fam: Any) -> Any:
    """The network without numbers and with additions on it; None where everything learns."""
    if lora_settings(config) is None:
        return None
    outline = fam.outline()
    add(config, fam, outline)
    return outline


def _memory(config: Config, learner: Counted, found: Activations, machines: Machines) -> dict[str, str]:
    """A line per kind, a column per way to share the learner."""
    settings, load = train_settings(config), config["data"]["loader"]
    ways, micro = _ways(config), load["micro_batch"]
    columns = {
        name: by_kind(
            learner,
            found,
            shards=shards,
            micro_batch=micro,
            optimizer=config["optim"]["kind"],
            averages=len(settings.ema.sigma_rels),
            low=settings.precision == "bf16",
            reserve_gib=0.0 if config["train"]["device"] == "cpu" else machines.reserve_gib,
        )
        for name, shards in ways.items()
    }
    width = max(map(len, ways)) + 3
    unit, times = ("GiB", 1) if max(sum(column.values()) for column in columns.values()) >= 1 else ("MiB", 1024)
    rows = {unit: "".join(f"{name:>{width}}" for name in ways)}
    for kind in dict.fromkeys(kind for column in columns.values() for kind in column):
        sizes = (f"{times * column[kind]:.2f}" if kind in column else "" for column in columns.values())
        rows[kind] = "".join(f"{size:>{width}}" for size in sizes)
    rows["sum"] = "".join(f"{times * sum(column.values()):{width}.2f}" for column in columns.values())
    if config["train"]["device"] != "cpu":
        for name, gpu in machines.gpus.items():
            words = (_fits(column, found, gpu.memory_gib, config) for column in columns.values())
            rows[f"{name}, {gpu.memory_gib:g} GiB"] = "".join(f"{word:>{width}}" for word in words)
        micro = config["data"]["loader"]["micro_batch"]
        rows[f"as set, {micro} at once"] = _verdict(columns, machines.gpus, lora=learner.base is not None)
    smallest = min(bucket_plan(config).buckets, key=lambda bucket: bucket.pixels)
    # Linear in tokens: attention keeps what goes in and comes out, never a row for every pair.
    large = times * found.picture / 2**30
    small = large * smallest.pixels / found.bucket.pixels
    rows["activations of a picture"] = (
        f"{large:.2f} {unit} at {found.bucket}, {small:.2f} at {smallest}: {_how(settings)}"
    )
    return rows


def _ways(config: Config) -> dict[str, int]:
    """How the learner may be shared, with the number of processes that hold one copy together."""
    settings, world = train_settings(config), config["train"]["processes"] or 1
    if world == 1:
        return {"one process": 1}
    if settings.sharding == "none":
        return {"a copy each": 1}
    if settings.sharding == "hsdp":
        return {f"hsdp, {settings.replicas} x {world // settings.replicas}": world // settings.replicas}
    sharded = {f"fsdp2 over {world}": world}
    return sharded if settings.sharding == "fsdp2" else {"a copy each": 1, **sharded}


def _fits(column: Mapping[str, float], found: Activations, memory_gib: float, config: Config) -> str:
    """`fits`, or how large a micro-batch could be: one that cuts the step evenly."""
    total, micro = sum(column.values()), config["data"]["loader"]["micro_batch"]
    if total <= memory_gib:
        return "fits"
    picture = found.picture / 2**30
    room = (memory_gib - total) / picture + micro
    share = config["data"]["loader"]["batch"] // config["data"]["loader"]["chunks_per_step"]
    share //= config["train"]["processes"] or 1
    legal = [size for size in range(1, share + 1) if share % size == 0 and size <= room]
    return f"{max(legal)} at once" if legal else "too large"


def _verdict(columns: Mapping[str, Mapping[str, float]], gpus: Mapping[str, Any], *, lora: bool) -> str:
    """Where the settings fit as they are; what to change where they fit nowhere, or on some GPU only."""
    fit = [
        f"{gpu} ({way})"
        for gpu, facts in gpus.items()
        for way, column in columns.items()
        if sum(column.values()) <= facts.memory_gib
    ]
    where = f"fits {', '.join(fit)}" if fit else "fits none of these GPUs"
    smaller = "train.activation_memory=full" if lora else "train.sharding=fsdp2, or train.activation_memory=full"
    base = ", or learn.base_dtype=int8 or nf4" if lora else ""
    return f"{where}; elsewhere data.loader.micro_batch=N from above, {smaller}{base}"


def _how(settings: Any) -> str:
    how = f"activation_memory={settings.activation_memory}, counted without a GPU"
    compiled = settings.compile and settings.activation_memory in ("none", "budget")
    return how + ", and what the compiler computes again taken off" if compiled else how


def _time(config: Config, fam: Any, shown: Exposure | str, machines: Machines, *, measure: bool) -> dict[str, Any]:
    settings, world = train_settings(config), config["train"]["processes"] or 1
    own = config["evaluate"]["price_per_hour"]
    own = require_range(own, where="evaluate.price_per_hour") if own is not None else None
    shares = _shares(config, shown)
    flops = picture_flops(fam, shares, over_base=lora_settings(config) is not None, prior=prior_weight(config) > 0)
    basis = "the sizes of the set" if isinstance(shown, Exposure) else f"{next(iter(shares))}, there being no cache"
    facts: dict[str, Any] = {
        "arithmetic of a picture": f"{arithmetic(flops)} forward and backward, {fam.text_tokens} text tokens, {basis}"
    }
    if config["train"]["device"] != "cpu":
        facts[f"at {100 * machines.mfu:.3g} % of the chip"] = expected(
            machines, flops=flops, images=settings.images, world=world,
            activation_memory=settings.activation_memory, price_per_hour=own,
        )  # fmt: skip
        facts["at other shares of it"] = compared(machines, flops=flops, images=settings.images)
        facts["what these are"] = (
            f"optimizer steps alone: start, validation, samples and saves come on top. Share: {machines.mfu_source}. "
            + ("Prices: yours, evaluate.price_per_hour" if own else f"Prices: {machines.source} ({machines.date})")
            + f"; edit {machines.file}"
        )
    elif not measure:
        facts["speed"] = "not reckoned for a CPU: `--measure` runs a few steps"
    if measure:
        facts["measured on this machine"] = _measured(config, flops, machines, world, own)
    return facts


def _measured(config: Config, flops: float, machines: Machines, world: int, own: Any) -> dict[str, str]:
    from ..bench import step

    found = step.run(step_job(config), rounds=1)
    rate, settings = found["ours"]["images_per_second"], train_settings(config)
    hours = settings.images / rate / 3600
    facts = {
        "speed": f"{rate:.3g} images/s a process",
        "time": f"{hours:,.3g} device-hours in {duration(3600 * hours / world)} (processes: {world})",
        "data": found["job"]["data"],
    }
    name = found["machine"].get("gpu", "")
    for kind, gpu in machines.gpus.items():
        if kind in name:
            facts["share of the chip"] = f"{speed_of(rate, flops, gpu).mfu:.1%}"
            facts["price"] = money(price(hours, own or gpu.price))
    if own and "price" not in facts:
        facts["price"] = money(price(hours, own))
    if (peak := found["ours"]["peak_memory_gib"]) is not None:
        facts["peak memory"] = f"{peak:.2f} GiB"
    return facts


def _shares(config: Config, shown: Exposure | str) -> Mapping[Bucket, float]:
    """Of the set; without one all weight is on the largest size, which never promises too much."""
    if isinstance(shown, Exposure):
        return shown.shares()
    buckets = bucket_plan(config).buckets
    return {max(buckets, key=lambda bucket: (bucket.pixels, -abs(bucket.log_aspect))): 1.0}


def told(config: Config, shown: Exposure | str) -> dict[str, Any]:
    """The section `exposure`."""
    if isinstance(shown, str):
        return {"not known yet": shown}
    images, batch = train_settings(config).images, config["data"]["loader"]["batch"]
    chunk = batch // config["data"]["loader"]["chunks_per_step"]
    ordered = sorted(shown.images.items(), key=lambda each: -each[1])
    rows = {}
    for bucket, count in ordered[:SHOWN]:
        few = "  fewer than a chunk" if count < chunk else ""
        rows[str(bucket)] = f"{count:>9,.0f} images {count / shown.total:6.1%}{few}"
    if len(ordered) > SHOWN:
        rest = sum(count for _, count in ordered[SHOWN:])
        rows[f"{len(ordered) - SHOWN} more"] = f"{rest:>9,.0f} images {rest / shown.total:6.1%}"
    facts: dict[str, Any] = {
        "set": f"{shown.total:,} images in {shown.source}",
        "visits": f"each picture {shown.visits(images):.2f} times, in every bucket alike (at most one visit apart)",
        "buckets": rows,
    }
    if shown.lines:
        pictures = sum(line.pictures for line in shown.lines)
        facts["set"] = f"{pictures:,} pictures in {shown.source}"
        facts["visits"] = (
            f"{shown.visits(images):.2f} epochs of {shown.total:,.0f} images, expected; each picture within one of its share"
        )
        facts["how often"] = _components(shown.lines)
    if shown.captions:
        cut = {name: f"{count:,} ({count / shown.captions:.1%})" for name, count in shown.truncated.items() if count}
        facts[f"captions cut, of {shown.captions:,}"] = cut or "none"
    return facts


def _components(lines: Sequence[Line]) -> dict[str, str]:
    """A row per component: share that was asked, what the first epoch makes of it, visits of a picture in an epoch."""
    head = {"component": f"{'pictures':>10}{'asked':>8}{'realised':>10}{'visits':>9}"}
    return head | {
        line.name: f"{line.pictures:>10,}{line.asked:>8.2%}{line.realised:>10.2%}{f'{line.least} to {line.most}':>9}"
        for line in lines
    }

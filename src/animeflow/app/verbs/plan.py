"""Say what a run would do, and check what can be checked, without running it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..build import build
from ..check import check_values, require_rates
from ..compose import compose, flat
from ..jobs import family_without_files
from ..learner import planned
from ..outlook import outlook
from ..wiring import Workspace, bucket_plan, captions, density, optim, train_settings, use_threads

Sections = dict[str, dict[str, Any]]
BLOCKS = "▁▂▃▄▅▆▇█"


def run(overrides: Sequence[str], *, dry_run: bool = False, measure: bool = False) -> None:
    config = compose(overrides)
    use_threads(config["train"]["threads"])
    describe(config, measure=measure)


def describe(config: dict[str, Any], *, measure: bool = False) -> Sections:
    """Print the plan and return its figures. Raises ConfigError for anything a run would stumble over later."""
    from rich.console import Console

    facts = figures(config, measure=measure)
    console = Console()
    console.print(f"[bold]plan of {config['name']}[/bold]")
    for title, section in facts.items():
        console.print(_table(title, section))
    console.print("[dim]every setting:[/dim]")
    for key, value in flat(config).items():
        console.print(f"  {key} = {value}", style="dim", highlight=False, markup=False)
    return facts


def figures(config: dict[str, Any], *, measure: bool = False) -> Sections:
    """What `describe` prints, as numbers and words, section by section."""
    check_values(config)
    captions(config)
    steps = run_figures(config)  # what stands in the way of the run comes first: it is told in a moment
    fam = family_without_files(config)
    return {"run": steps, **_model(config, fam), **outlook(config, fam, measure=measure), "files": _files(config)}


def run_figures(config: Mapping[str, Any]) -> dict[str, Any]:
    """Batch, length, optimizer, schedule, and what of the timesteps counts."""
    from ...data.plan import accumulation
    from ...flow.weight import Weight, emphasis

    load, settings = config["data"]["loader"], train_settings(config)
    plan, (optimizer, schedule) = bucket_plan(config), optim(config)
    world = config["train"]["processes"] or 1
    accumulated = accumulation(load["batch"] // load["chunks_per_step"], world=world, micro_batch=load["micro_batch"])
    accumulated *= load["chunks_per_step"]
    steps = -(-settings.images // load["batch"])
    weight = build(Weight, config["recipe"]["weight"], where="recipe.weight")
    share = emphasis(density(config), weight, bins=10)
    return {
        "effective batch": f"{load['batch']} = {world} processes x {load['micro_batch']} x {accumulated} accumulated",
        "images": f"{settings.images:,} in {steps:,} optimizer steps",
        "optimizer": f"{config['optim']['kind']}, {_rates(optimizer)}, betas {optimizer.betas}",
        "schedule": _schedule(config["optim"]["schedule"], load["batch"], schedule, settings.images),
        "learning rate over images": curve(schedule, settings.images),
        "precision": settings.precision + (", linear layers in 8 bits" if settings.fp8 else ""),
        "buckets": f"{len(plan)}: {', '.join(str(b) for b in plan.buckets[:12])}{', ...' if len(plan) > 12 else ''}",
        "weight of the loss by t": f"{' '.join(f'{s:.0%}' for s in share)}  (tenths, from data at 0 to noise at 1)",
        "captions": ", ".join(f"{kind} {w:g}" for kind, w in config["text"]["kinds"].items()),
    }


def curve(schedule: Any, images: int, *, width: int = 48) -> str:
    """The factor of the peak rate from the first picture to the last, as a row of blocks from 0 to 1."""
    factors = [schedule.factor(round(i * (images - 1) / (width - 1)), images) for i in range(width)]
    return "".join(BLOCKS[round(factor * (len(BLOCKS) - 1))] for factor in factors)


def _model(config: Mapping[str, Any], fam: Any) -> Sections:
    sizes = fam.sizes()
    require_rates(sizes, optim(config)[0].rates)
    trainable = sum(part.parameters for part in sizes if part.trainable)
    whole = sum(part.parameters for part in sizes)
    parts = {part.name: f"{part.parameters:,}{' (trained)' if part.trainable else ''}" for part in sizes}
    lora = planned(config, fam)
    if lora is not None:
        trainable = lora["parameters"]
        parts = {part.name: f"{part.parameters:,}" for part in sizes}
    work = f"{trainable:,} of {whole:,} with encoders and codec ({trainable / whole:.1%})"
    model = {"model": {"family": f"{fam.name}/{fam.flavour}", "parameters": parts, "trained": work}}
    return model if lora is None else model | {"LoRA": _lora(config, lora)}


def _lora(config: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    rate, scale, ranks = config["optim"]["lr"], facts["scale"], facts["ranks"]
    scales = scale if isinstance(scale, list) else [scale]
    effective = " to ".join(f"{rate * each:g}" for each in dict.fromkeys((min(scales), max(scales))))
    return {
        "kind": f"{facts['kind']}, rank {' and '.join(map(str, ranks))}, on {facts['layers']} layers ({facts['targets']})",
        "scale (alpha / rank)": " to ".join(f"{each:g}" for each in dict.fromkeys((min(scales), max(scales)))),
        "rate x scale": f"{rate:g} x scale = {effective}: what to compare between trainers",
        "base": f"{facts['base']}, frozen in {facts['base_dtype']}",
    }


def _rates(optimizer: Any) -> str:
    parts = [f"learning rate {optimizer.lr:g}", *(f"{p} {rate:g}" for p, rate in optimizer.rates.items())]
    return ", ".join([*parts, *[f"B of LoRA {optimizer.lora_plus:g} times that"] * (optimizer.lora_plus != 1)])


def _schedule(node: Mapping[str, Any], batch: int, schedule: Any, images: int) -> str:
    warmup = node.get("warmup_images", 0)
    words = {"constant": "constant with warm-up", "wsd": "warm-up, constant, decay"}[node["kind"]]
    parts = ", ".join(f"{schedule.factor(int(images * part), images):.2f}" for part in (0, 0.25, 0.5, 0.75, 0.99))
    return (
        f"{words}: {warmup:,} images ({-(-warmup // batch):,} steps) of warm-up; factor at 0, 25, 50, 75, 99 %: {parts}"
    )


def _files(config: Mapping[str, Any]) -> dict[str, str]:
    """Which of the files and folders that the run names are there."""
    place = Workspace.of(config)
    found = [name for name in ("catalogue", "shards", "cache") if (getattr(place, name)).is_dir()]
    named = {name: config["model"].get(name) for name in ("weights", "codec", "text", "tokenizers")}
    there = {name: f"{path}{'' if Path(path).exists() else ' (not there)'}" for name, path in named.items() if path}
    return {f"set {place.set}": ", ".join(found) or "nothing yet", **there}


def _table(title: str, section: Mapping[str, Any]) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(title=title, show_header=False, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column(no_wrap=False, min_width=28, max_width=34)
    table.add_column(overflow="fold")
    for key, value in section.items():
        table.add_row(key, _words(value))
    return table


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        width = max((len(str(key)) for key in value), default=0)
        return "\n".join(f"{key!s:<{width}}  {entry}" for key, entry in value.items())
    return str(value)

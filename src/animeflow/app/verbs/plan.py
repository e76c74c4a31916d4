"""Say what a run would do, and check what can be checked, without running it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...core.errors import ConfigError
from ..build import build
from ..check import check_values, require_rates
from ..compose import compose, flat
from ..wiring import Workspace, bucket_plan, captions, density, family, optim, train_settings

CARDS_BYTES = {"weights, gradients, both moments (float32) and a bf16 copy": 18, "moving average (float32)": 4}


def run(overrides: Sequence[str], *, dry_run: bool = False, measure: bool = False) -> None:
    describe(compose(overrides))


def describe(config: dict[str, Any]) -> dict[str, Any]:
    """Print the plan and return its figures. Raises ConfigError for anything a run would stumble over later."""
    from rich.console import Console
    from rich.table import Table

    check_values(config)
    facts = figures(config)
    table = Table(title=f"plan of {config['name']}", show_header=False, title_justify="left")
    for key, value in facts.items():
        table.add_row(key, _words(value))
    console = Console()
    console.print(table)
    console.print("[dim]every setting:[/dim]")
    for key, value in flat(config).items():
        console.print(f"  {key} = {value}", style="dim", highlight=False, markup=False)
    return facts


def figures(config: dict[str, Any]) -> dict[str, Any]:
    """What `describe` prints, as numbers and words."""
    from ...data.plan import accumulation
    from ...flow.weight import Weight, emphasis

    train, load = config["train"], config["data"]["loader"]
    settings = train_settings(config)
    plan, (optimizer, schedule) = bucket_plan(config), optim(config)
    captions(config)
    world = train["processes"] or 1
    accumulated = accumulation(load["batch"] // load["chunks_per_step"], world=world, micro_batch=load["micro_batch"])
    accumulated *= load["chunks_per_step"]
    fam = _family_or_shape(config)
    sizes = fam.sizes() if fam is not None else ()
    require_rates(sizes, optimizer.rates)
    trainable = sum(part.parameters for part in sizes if part.trainable)
    steps = -(-settings.images // load["batch"])
    weight = build(Weight, config["recipe"]["weight"], where="recipe.weight")
    share = emphasis(density(config), weight, bins=10)
    return {
        "family": f"{config['model']['family']}/{config['model']['flavour']}",
        "parameters": {part.name: f"{part.parameters:,}{' (trained)' if part.trainable else ''}" for part in sizes},
        "effective batch": f"{load['batch']} = {world} processes x {load['micro_batch']} x {accumulated} accumulated",
        "images": f"{settings.images:,} in {steps:,} optimizer steps",
        "optimizer": f"{config['optim']['kind']}, {_rates(optimizer)}, betas {optimizer.betas}",
        "schedule": _schedule(config["optim"]["schedule"], load["batch"], schedule, settings.images),
        "precision": settings.precision,
        "buckets": f"{len(plan)}: {', '.join(str(b) for b in plan.buckets[:12])}{', ...' if len(plan) > 12 else ''}",
        "weight of the loss by t (0 to 1, tenths)": " ".join(f"{s:.0%}" for s in share),
        "captions": ", ".join(f"{kind} {w:g}" for kind, w in config["text"]["kinds"].items()),
        "memory per process before activations, unsharded": {
            what: f"{trainable * number / 2**30:.1f} GiB" for what, number in CARDS_BYTES.items()
        },
        "set on disk": _on_disk(config),
        "files of the model": _files(config),
        "cost": _cost(config, world),
    }


def _family_or_shape(config: Mapping[str, Any]) -> Any:
    """The family for its sizes; a plan needs neither weights nor a trained codec on disk."""
    node = dict(config["model"])
    for name in ("weights", "codec", "text"):
        if node.get(name) is not None and not Path(str(node[name])).exists():
            node[name] = None
    return family({**config, "model": node})


def _rates(optimizer: Any) -> str:
    return ", ".join([f"learning rate {optimizer.lr:g}", *(f"{p} {rate:g}" for p, rate in optimizer.rates.items())])


def _schedule(node: Mapping[str, Any], batch: int, schedule: Any, images: int) -> str:
    warmup = node.get("warmup_images", 0)
    words = {"constant": "constant with warm-up", "wsd": "warm-up, constant, decay"}[node["kind"]]
    halves = ", ".join(f"{schedule.factor(int(images * part), images):.2f}" for part in (0, 0.25, 0.5, 0.75, 0.99))
    return f"{words}: {warmup:,} images ({-(-warmup // batch):,} steps) of warm-up; factor at 0, 25, 50, 75, 99 %: {halves}"


def _on_disk(config: Mapping[str, Any]) -> str:
    place = Workspace.of(config)
    found = [name for name in ("catalogue", "shards", "cache") if (getattr(place, name)).is_dir()]
    return f"{place.set}: {', '.join(found) if found else 'nothing yet'}"


def _files(config: Mapping[str, Any]) -> str:
    """Which of the files and folders that the model names are there."""
    named = {name: config["model"].get(name) for name in ("weights", "codec", "text", "tokenizers")}
    lines = [f"{name}: {path}{'' if Path(path).exists() else ' (not there)'}" for name, path in named.items() if path]
    return "\n".join(lines) or "none named"


def _cost(config: Mapping[str, Any], world: int) -> str:
    price = config["evaluate"]["price_per_hour"]
    if price is None:
        return "not priced (set evaluate.price_per_hour=[LOW,HIGH] per device)"
    if len(price) != 2:
        raise ConfigError(f"price_per_hour {price} is not [low, high]", where="evaluate.price_per_hour")
    return f"{price[0] * world:g} to {price[1] * world:g} an hour for {world} devices"


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return "\n".join(f"{key}: {entry}" for key, entry in value.items())
    return str(value)

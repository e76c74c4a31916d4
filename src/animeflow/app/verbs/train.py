"""Train, or go on from the newest checkpoint."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from ...core import files
from ...core.errors import ConfigError, DataError
from ...core.log import is_main_process
from ..check import check_values, require_rates
from ..compose import compose, flat
from ..learner import base_identity, keep_start, learner, start_identity
from ..prompts import example_prompts, has_emphasis, sample_size
from ..record import RecordKeeper
from ..wiring import (
    Workspace,
    assembler,
    family,
    loader,
    optim,
    prior_weight,
    recipe,
    set_of,
    train_settings,
    use_threads,
)

log = logging.getLogger(__name__)

# Settings that change what is printed, kept or where it runs, but no weight: a run may be continued with other ones.
FREE = (
    "train.",
    *("sample.", "export.", "evaluate.", "catalogue.", "toonworld."),
    *("data.shard.", "data.bucket.", "data.codec.", "data.remote."),
    *("data.cache.batch_size", "data.loader.micro_batch", "data.loader.preload"),
    *("data.loader.group_lengths", "data.loader.broken", "data.loader.threads"),
    *("set", "run"),
)
# Of `train` these change a weight, and the rest does not.
BOUND = (*("train.images", "train.precision", "train.clip", "train.fp8", "train.ema.sigma_rels", "train.routing"),)


def run(overrides: Sequence[str], *, dry_run: bool = False) -> int:
    """The exit code: 0 when the run is done, 75 when it was asked to stop and is saved."""
    config = compose(overrides)
    use_threads(config["train"]["threads"])
    if dry_run:
        from .plan import describe

        describe(config)
        return 0
    return learn(config, overrides=overrides)


def learn(config: dict[str, Any], *, fam: Any = None, overrides: Sequence[str] = ()) -> int:
    """Run the whole of the training. Leaves config, record, numbers, samples and checkpoints in the run's folder. Returns the exit
    code of `Trainer`."""
    from ...train import outcome

    try:
        trainer = _trainer(config, fam=fam, overrides=overrides)
    except Exception as error:  # a job script must hear of it too, or it starts the same mistake again
        outcome.write(Workspace.of(config).run, outcome.FAILED, outcome.Progress(), error=error)
        raise
    try:
        trainer.run()
    finally:  # also of a run that failed: its last lines tell why
        trainer.tracker.finish()
    trainer.close()
    return trainer.exit_code


def _trainer(config: dict[str, Any], *, fam: Any, overrides: Sequence[str]) -> Any:
    """Everything that a run needs, resumed where there is something to resume."""
    from ...train.tracker import Tracker
    from ...train.trainer import Trainer

    check_values(config)
    place, node = Workspace.of(config), config["train"]
    rank, world = _processes(node["processes"])
    settings = train_settings(config)
    make_optimizer, schedule = optim(config)
    fam = fam or family(config)
    require_rates(fam.sizes(), make_optimizer.rates)
    home = set_of(config)
    _require_cache(home / "cache" / fam.name)
    tower, codec = fam.text_tower(), fam.codec().fingerprint
    pin = node["device"] != "cpu" and _has_cuda()
    steps = loader(
        config,
        assembler(config, tower, dropout=True, pin=pin, device=_device(pin)),
        codec=codec,
        rank=rank,
        world=world,
        pin=pin,
    )
    calm = assembler(config, tower, dropout=False)
    _require_same_pictures(home / "shards", calm.index)
    _require_text_dtype(config, calm.index)
    learns = learner(config, fam)
    trainer = Trainer(
        learner=learns.module,
        on_base=learns.on_base,
        recipe=recipe(config, patch=fam.patch),
        steps=steps,
        optim=make_optimizer,
        schedule=schedule,
        settings=settings,
        folder=place.run,
        tracker=Tracker(place.run, config=flat(config), wandb=node["wandb"], name=config["name"]),
        hooks=[*_hooks(config, fam, calm, steps.micro_batch), RecordKeeper(config, fam, steps, calm, learns.facts)],
        identity=run_identity(config)
        | {"cache": calm.index.hash, "codec": codec, "text tower": tower.fingerprint}
        | ({"base": base_identity(config), "start": start_identity(config)} if learns.on_base else {}),
        flops=_flops(config, fam, over_base=learns.on_base),
        peak_flops=_peak(),
        speed=_speed(settings, fam, calm.index.buckets("train"), steps.micro_batch),
        panel=_panel(config, world),
    )
    _begin(trainer, config, overrides)
    return trainer


def _begin(trainer: Any, config: Mapping[str, Any], overrides: Sequence[str]) -> None:
    """Go on where there is something to go on with, or start, and write down what was asked for."""
    place, settings, steps = Workspace.of(config), trainer.settings, trainer.steps
    if config["train"]["resume"]:
        resumed = trainer.resume()
    else:
        resumed = False
        trainer.start_anew()
    if is_main_process():  # after a run of other settings has refused to go on
        keep_start(config)
        files.write_json(place.run / "config.json", config)
        files.write_json(place.run / "command.json", list(overrides))
    log.info(
        "%s %s: %s images, batch %d = %d processes (%s) x %d x %d accumulated, %s",
        "going on with" if resumed else "training", place.run, f"{settings.images:,}", steps.batch, trainer.parallel.world,
        trainer.parallel.name, steps.micro_batch, steps.accumulation, settings.precision,
    )  # fmt: skip


def _flops(config: Mapping[str, Any], fam: Any, *, over_base: bool) -> Any:
    """FLOP of one image of a batch, forward and backward, at the size and text length that the batch has."""
    stride, prior = fam.codec().stride, prior_weight(config) > 0

    @lru_cache(maxsize=256)
    def of(height: int, width: int, tokens: int) -> float:
        return fam.work(height=height * stride, width=width * stride, text_tokens=tokens).of_step(
            over_base=over_base, prior=prior
        )

    return lambda batch: of(*batch.latents.shape[-2:], fam.tokens_of(batch.conditioning))


def _peak() -> float | None:
    """FLOP per second that this machine's device promises in bf16; None where it is not known."""
    import torch

    from ...bench.machine import peak_flops

    return peak_flops(torch.cuda.get_device_name()) if torch.cuda.is_available() else None


def _speed(settings: Any, fam: Any, buckets: Mapping[str, Any], micro_batch: int) -> Any:
    """A function of the processes: the attention kernels that are there are tried at the run's own shapes."""
    from ...image.bucket import Bucket
    from ...train.speed import Speed

    sizes = [Bucket.parse(name) for name in buckets]
    work = [fam.work(height=size.height, width=size.width, text_tokens=fam.text_tokens) for size in sizes]
    work.sort(key=lambda each: each.forward)
    also = [call for each in work[:-1] for call in each.attention]
    shapes = {"calls": work[-1].attention, "also": also, "batch": micro_batch}
    return lambda parallel: Speed(
        settings, **shapes, device=parallel.device, first=lambda name: parallel.gather_objects(name)[0]
    )


def _panel(config: Mapping[str, Any], world: int) -> Any:
    from ...train.panel import Panel

    return Panel(
        total_images=config["train"]["images"],
        mode=config["train"]["panel"],
        title=f"training {config['name']}",
        price_per_hour=config["evaluate"]["price_per_hour"],
        devices=world,
    )


def _hooks(config: Mapping[str, Any], fam: Any, calm: Any, micro_batch: int) -> list[Any]:
    """What is looked at while the run goes on."""
    from ...data.loader import fixed_batches
    from ...train.hooks import Samples, Validation
    from ..adherence import Adherence
    from ..identity import Identity
    from ..probes import probes

    place, node, evaluate, seed = Workspace.of(config), config["train"], config["evaluate"], config["seed"]
    height, width = sample_size(config, calm.index.buckets("train"))
    hooks: list[Any] = []
    batches = fixed_batches(calm, "val", images=node["validate"]["images"], micro_batch=micro_batch)
    if batches:
        hooks.append(Validation(batches, every_images=node["validate"]["every_images"], seed=seed))
    else:
        log.warning("no picture is held out, so there is no validation loss: raise catalogue.val_share for a small set")
    options = {k: evaluate[k] for k in ("steps", "cfg", "shift", "batch_size")}
    prompts, every = example_prompts(config, node["samples"]["count"]), node["samples"]["every_images"]
    size = {"height": height, "width": width}
    drawn = {**options, "prompt_weights": has_emphasis(config)}
    hooks.append(Samples(fam, prompts, folder=place.samples, every_images=every, seed=seed, options=drawn, **size))
    if evaluate["oracle"]:
        hooks.append(Adherence(fam, config, folder=place.run, **size))
    hooks += probes(fam, config, folder=place.run, **size)
    if (evaluate.get("identity") or {}).get("guest"):
        hooks.append(Identity(fam, config, folder=place.run, **size))
    return hooks


def run_identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a continued run must share with its beginning."""
    # A run of constant rate is the same run whatever its length; one that decays, or ends its routing, towards its end is not.
    constant = config["optim"]["schedule"]["kind"] == "constant" and not config["train"]["routing"]["share"]
    bound = tuple(name for name in BOUND if not (constant and name == "train.images"))
    everything = (config.get("learn") or {}).get("kind", "everything") == "everything"
    # Settings that came later, at the values that leave a run what it was without them.
    later: dict[str, Any] = {"recipe.mask.background": 0.1, "recipe.prior.kind": "none"}
    prior = config["recipe"].get("prior") or {}
    if prior.get("kind", "none") == "none":
        later["recipe.prior.weight"] = prior.get("weight")
    without = ("learn.",) if everything else ("model.weights", "learn.start")  # known by their hashes
    return {
        # Nothing and absent are the same to a resume; a nothing that is another choice than the default is told in words.
        key: value if value or key not in later else str(value)
        for key, value in flat(dict(config)).items()
        if value != {}
        and (key.startswith(bound) or not key.startswith((*FREE, *without)))
        and (key not in later or value != later[key])
    }


def _processes(expected: int | None) -> tuple[int, int]:
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if expected is not None and world != expected:
        raise ConfigError(
            f"{world} processes were started, {expected} expected",
            where="train.processes",
            why="a launcher that falls back to one process would train at an eighth of the speed without a word",
            do=f"accelerate launch --num_processes {expected} scripts/train.py ..., or set train.processes={world}",
        )
    return rank, world


def _require_cache(cache: Any) -> None:
    if cache.size("latest.json") is None:
        raise DataError(
            "there is no finished cache to train from",
            where=cache.where(),
            do="run 'animeflow cache' with the same settings first",
        )


def _require_same_pictures(shards: Any, index: Any) -> None:
    """Shards that were cut anew hold other pictures or captions than a cache made before. A cache may also travel alone."""
    from ...data.manifest import Manifest

    if shards.size("manifest.json") is None:
        return
    if Manifest.read(shards).samples != index.manifest["identity"]["shards"]:
        raise DataError(
            "the cache was made from other shards than those that are here now",
            where=str(index.folder),
            why="training would not see what changed since",
            do="run 'animeflow cache' with the same settings: only what changed is encoded",
        )


def _require_text_dtype(config: Mapping[str, Any], index: Any) -> None:
    there, asked = index.manifest["identity"].get("text_dtype", "bf16"), config["data"]["cache"]["text_dtype"]
    if there != asked:
        raise ConfigError(
            f"the newest cache holds captions in {there}, and {asked} was asked for",
            where="data.cache.text_dtype",
            do=f"run 'animeflow cache' with data.cache.text_dtype={asked} first, or set {there} here",
        )


def _device(cuda: bool) -> str | None:
    """Where live captions are encoded: the GPU of this process."""
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if cuda else None


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()

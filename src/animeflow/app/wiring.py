"""From config nodes to the objects of the rooms below. One function per noun; every kind that a config can name is listed here."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.engine import Engine
from ..core.errors import ConfigError, did_you_mean
from ..evaluate.run_folder import flat
from .build import build, choose

Config = Mapping[str, Any]


@dataclass(frozen=True)
class Workspace:
    """Where a set and a run live on disk."""

    set: Path
    run: Path

    @classmethod
    def of(cls, config: Config) -> Workspace:
        return cls(Path(config["set"]), Path(config["run"]))

    @classmethod
    def to_write(cls, config: Config) -> Workspace:
        """For verbs that write into the set. Raises ConfigError where it lies in a store: those are only read."""
        from ..data.place import is_url

        if is_url(str(config["set"])):
            raise ConfigError(
                f"a set is written on this machine, and {config['set']} is elsewhere",
                where="set",
                do="give a folder as set=..., and copy it to the store when it is done",
            )
        return cls.of(config)

    @property
    def catalogue(self) -> Path:
        return self.set / "catalogue"

    @property
    def shards(self) -> Path:
        return self.set / "shards"

    @property
    def cache(self) -> Path:
        return self.set / "cache"

    @property
    def samples(self) -> Path:
        return self.run / "samples"

    @property
    def export(self) -> Path:
        return self.run / "export"


def use_threads(threads: int | None) -> None:
    """Set the CPU threads before torch makes its pool. What the environment says in OMP_NUM_THREADS wins (torchrun sets 1 for each
    of several processes). Idle OpenMP threads sleep: on a busy machine spinning ones stand in each other's way."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("OPENCV_FOR_THREADS_NUM", "1")  # pictures are spread over processes already
    # Buckets of many shapes cut a GPU's memory into pieces; segments that grow do not.
    os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    if threads and "OMP_NUM_THREADS" not in os.environ:
        os.environ["OMP_NUM_THREADS"] = str(threads)
        import torch

        torch.set_num_threads(threads)


def bucket_plan(config: Config) -> Any:
    from ..image.bucket import BucketPlan
    from ..model import registry

    kinds: dict[str, Callable[..., Any]] = {
        "nekofantasia": BucketPlan.nekofantasia,
        "tokens": BucketPlan.tokens,
        "pixels": BucketPlan.pixels,
        "explicit": BucketPlan.explicit,
    }
    plan = choose(kinds, config["data"]["bucket"], where="data.bucket")
    cell = registry.cell(config["model"]["family"])
    for bucket in plan:
        if bucket.height % cell or bucket.width % cell:
            raise ConfigError(
                f"bucket {bucket} is not a multiple of {cell}",
                where="data.bucket",
                why=f"{config['model']['family']} makes tokens of {cell} x {cell} pixels (codec stride x patch)",
                do=f"set data.bucket.step={cell}, or sizes that are multiples of it",
            )
    return plan


def density(config: Config) -> Any:
    from ..flow import density as densities
    from ..flow import shift as shifts

    node = config["recipe"]
    shift = build(shifts.build, node["shift"], where="recipe.shift")
    return build(densities.build, node["density"], where="recipe.density", shift=shift)


def recipe(config: Config, *, patch: int) -> Callable[[Any], Any]:
    """A function that makes the recipe of a (wrapped) learner."""
    from ..flow.weight import Weight
    from ..recipe.masked import BACKGROUND
    from ..recipe.velocity import Velocity

    node = config["recipe"]
    if node["kind"] != "velocity":
        raise ConfigError(f"unknown recipe '{node['kind']}'", where="recipe.kind", do="choose one of: velocity")
    law = density(config)
    weight = build(Weight, node["weight"], where="recipe.weight")
    options = {
        "density": law,
        "weight": weight,
        "seed": config["seed"],
        "patch": patch,
        "stratified": node["stratified"],
        "background": (node.get("mask") or {}).get("background", BACKGROUND),
        "prior_weight": prior_weight(config),
    }
    if not options["prior_weight"]:
        return lambda learner: Velocity(learner, **options)
    from ..learn.attach import adapters_off

    return lambda learner: Velocity(learner, **options, base=lambda: adapters_off(learner))


def prior_weight(config: Config) -> float:
    """How much it counts that a class alone keeps its meaning; 0 asks nothing of the base. Raises ConfigError where it cannot be
    asked."""
    node: dict[str, Any] = {"kind": "none", "weight": 1.0} | dict(config["recipe"].get("prior") or {})
    if node["kind"] not in ("none", "dop"):
        raise ConfigError(
            f"unknown kind '{node['kind']}'{did_you_mean(str(node['kind']), ('none', 'dop'))}",
            where="recipe.prior.kind",
            do="choose one of: none, dop",
        )
    if node["kind"] == "none" or not node["weight"]:
        return 0.0
    if (config.get("learn") or {}).get("kind") != "lora":
        raise ConfigError(
            "there is no base to compare with",
            where="recipe.prior.kind",
            why="only low-rank additions can be switched off to ask it",
            do="set learn=lora, or recipe.prior.kind=none",
        )
    if config["train"]["routing"]["share"]:
        raise ConfigError(
            "a base that sees all tokens is no measure for a learner that does not",
            where="train.routing.share",
            do="set train.routing.share=0, or recipe.prior.kind=none",
        )
    return float(node["weight"])


def train_settings(config: Config) -> Any:
    """`train.settings.Settings`, with the nodes `ema` and `guard` in it."""
    from ..train.settings import Averages, Guard, Routing, Settings

    node = config["train"]
    nested = {
        "ema": build(Averages, {**node["ema"], "sigma_rels": tuple(node["ema"]["sigma_rels"])}, where="train.ema"),
        "guard": build(Guard, node["guard"], where="train.guard"),
        "routing": build(Routing, node["routing"], where="train.routing"),
    }
    flat_values = {k: v for k, v in node.items() if k in Settings.__dataclass_fields__ and k not in nested}
    return build(Settings, flat_values, where="train", **nested)


def optim(config: Config) -> tuple[Any, Any]:
    """`(optimizer constructor, schedule)`."""
    from ..optim.adamw import AdamW
    from ..optim.adamw8bit import AdamW8bit
    from ..optim.elsewhere import unknown
    from ..optim.muon import Muon
    from ..optim.prodigy import Prodigy
    from ..optim.schedule import WSD, Constant

    rates = flat(config["optim"].get("rates") or {})  # a part is a path, written nested or with dots
    node = {**config["optim"], "rates": rates}
    kinds: dict[str, Callable[..., Any]] = {
        "adamw": AdamW,
        "adamw8bit": AdamW8bit,
        "muon": Muon,
        "prodigy": Prodigy,
    }
    if node.get("kind") not in kinds:
        raise unknown(str(node.get("kind")), kinds)
    schedule = choose({"wsd": WSD, "constant": Constant}, node.pop("schedule"), where="optim.schedule")
    return choose(kinds, node, where="optim"), schedule


def _require_set(config: Config) -> None:
    """Raises ConfigError where the codec is missing because the whole set is, or because it lies in a store."""
    from ..data.place import is_url

    if is_url(str(config["set"])):
        raise ConfigError(
            "a codec is read from this machine, and this set lies elsewhere",
            where="model.codec",
            do="copy the codec here and give model.codec=FOLDER",
        )
    if not Path(config["set"]).exists():
        raise ConfigError(
            "there is no set here",
            where=str(config["set"]),
            why="name=... names the set too, unless set=... says where it is",
            do="give set=... of the one that you made, or make one: animeflow --help shows the path",
        )


def family(config: Config) -> Any:
    """The family that the config names. The options `weights`, `codec` and `text` of a family name files or folders."""
    from ..model import registry

    node = dict(config["model"])
    make = registry.constructor(node.pop("family"))
    codec = node.get("codec")
    if codec is not None and not Path(codec).exists():
        _require_set(config)
        raise ConfigError(
            f"there is no codec in {codec}",
            where="model.codec",
            do="give the file or folder of the family's autoencoder; for a small model 'animeflow codec' trains one there",
        )
    return build(make, node, where="model", seed=config["seed"])


def captions(config: Config, shards: Any = None) -> Any:
    """How captions are drawn; of the pictures in `shards`, where their scores are to become labels."""
    from ..text.concept import concepts_of
    from ..text.field import fields_of
    from ..text.policy import CaptionPolicy
    from .captioning import with_bounds, wordbook

    node = dict(config["text"])
    concepts, extra = concepts_of(node.pop("concepts", None)), fields_of(node.pop("extra", None))
    words = wordbook(node.pop("database", None))
    source = config["catalogue"]["source"]
    for name in concepts:  # a name that no picture has would leave the trigger out of every caption, without a word
        kind = source["kind"]
        known = list(source["concepts"]) if kind == "concepts" else [str(source.get("name", kind))]
        if name not in known and not name.startswith(f"{kind}/"):  # a download says the site too
            raise ConfigError(
                f"no pictures are called '{name}'{did_you_mean(name, known)}",
                where="text.concepts",
                do=f"known in catalogue.source: {', '.join(known)}",
            )
    policy = build(CaptionPolicy, node, where="text", concepts=concepts, extra=extra, wordbook=words)
    return policy if shards is None else with_bounds(policy, shards, set_of(config))


def engine(config: Config, *, workers: int | None = None) -> Engine:
    """Who does the work of many pictures. `workers` is the stage's own number of processes on this machine (None: one a core)."""
    node = {"kind": "local", **(config.get("engine") or {})}
    if node["kind"] == "local":
        return build(
            Engine, {"kind": "local"}, where="engine", workers=os.cpu_count() or 1 if workers is None else workers
        )
    return build(Engine, node, where="engine")


def set_of(config: Config) -> Any:
    """The set that is read, here or in a store elsewhere: a `data.place.Place`."""
    from ..data.place import place_of
    from ..data.remote import Remote

    return place_of(config["set"], build(Remote, config["data"].get("remote"), where="data.remote"))


def assembler(config: Config, tower: Any, *, dropout: bool, pin: bool = False, device: str | None = None) -> Any:
    """What turns pictures of the cache into batches; without dropout for validation."""
    from ..data.assemble import Assembler
    from ..data.index import CacheIndex
    from ..data.reader import ShardSet
    from ..data.stand_in import Substituting

    node, live = config["data"]["loader"], config["data"]["loader"]["texts"] == "live"
    broken = node.get("broken", "stop")
    if broken not in ("stop", "skip"):
        raise ConfigError(f"unknown policy '{broken}'", where="data.loader.broken", do="use stop or skip")
    home = set_of(config)
    index = CacheIndex(
        home / "cache" / config["model"]["family"],
        memory_bytes=2**62 if node["preload"] else 0,
        skip_broken=broken == "skip",
    )
    shards = ShardSet(home / "shards") if live else None
    assemble = Assembler(
        index,
        tower,
        seed=config["seed"],
        caption_dropout=node["caption_dropout"] if dropout else 0.0,
        encoder_dropout=node["encoder_dropout"] if dropout else None,
        texts=node["texts"],
        shards=shards,
        policy=captions(config, shards) if live else None,
        prior=dropout and prior_weight(config) > 0,  # validation asks nothing of the base
        pin=pin,
        device=device,
    )
    return assemble if broken == "stop" else Substituting(assemble, listed=Workspace.of(config).run / "broken.jsonl")


def loader(config: Config, assemble: Any, *, codec: str, rank: int, world: int, pin: bool) -> Any:
    """Optimizer steps of this process over the training split."""
    from ..data.loader import Loader
    from ..data.plan import Plan
    from ..data.repeats import repeats_of
    from ..data.stand_in import Substituting
    from .exposure import exposures_of

    node = config["data"]["loader"]
    assemble.index.require(codec=codec, tower=assemble.tower.fingerprint)
    repeats = dict(node.get("repeats") or {})
    buckets = assemble.index.buckets("train")
    shown = exposures_of(config, [uid for uids in buckets.values() for uid in uids], assemble.index.concepts)
    plan = Plan(
        buckets,
        seed=config["seed"],
        batch=node["batch"],
        chunks_per_step=node["chunks_per_step"],
        repeats=repeats_of(assemble.index.concepts("train"), repeats) if repeats and shown is None else None,
        turns=None if shown is None else shown.turns(config["seed"]),
    )
    drawn = assemble.assemble if isinstance(assemble, Substituting) else assemble
    # The length of a live caption is known when it was encoded, and that is too late to sort by it.
    length = drawn.text_length if node.get("group_lengths", True) and not drawn.live else None
    return Loader(
        plan,
        assemble,
        micro_batch=node["micro_batch"],
        rank=rank,
        world=world,
        threads=node.get("threads", 2),
        pin=pin,
        length=length,
        ahead=drawn.encode_ahead if drawn.live else None,
        shown=shown,
    )

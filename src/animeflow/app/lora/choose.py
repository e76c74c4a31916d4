"""From what a folder holds to the words of a run: every number with who said it. Knows config words and counts; runs nothing.

The words are those of `animeflow train`: an experiment, what is chosen here, and last what the user said, which wins.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...core.errors import ConfigError
from ...image.bucket import Bucket
from ...text.trigger import kohya_folder, prune_of, trigger_of
from ..compose import compose, flat
from . import length, situations
from .base import LORA, TINY, Base
from .fit import fitting
from .found import Found, Group
from .words import keys, unless_said, word

YOU, OURS, PRESET = "you", "default", "preset"
KINDS = ("1girl", "1boy", "no_humans")  # of which the pictures' own tags may say that they are
FEW = 30  # pictures up to which the rate is doubled
QUICK = 20_000_000  # pixels that are decoded sooner than a process starts
CONCEPTS, SOURCES = "text.concepts", "catalogue.source.concepts"


@dataclass(frozen=True)
class Asked:
    """What the command line says besides the folder."""

    base: str | None = None
    family: str | None = None
    tiny: bool = False
    preset: str | None = None
    trigger: str | None = None
    kind: str | None = None
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chosen:
    """A run that is fully described.

    Attributes:
        words: of the command line that does the same.
        config: what they compose to.
        reasons: of the settings chosen here, by key.
        said: keys that the user named.
        held_out: pictures that are not trained on.
        buckets: pictures per size.
    """

    found: Found
    base: Base
    words: tuple[str, ...]
    config: Mapping[str, Any]
    reasons: Mapping[str, str]
    said: frozenset[str]
    held_out: int
    buckets: Mapping[Bucket, int] = field(default_factory=dict)

    def origin(self, *names: str) -> str:
        """Who said these settings: the user, this module, or the experiment."""
        if any(
            name == key or name.startswith(f"{key}.") or key.startswith(f"{name}.")
            for name in names
            for key in self.said
        ):
            return YOU
        return OURS if any(name in self.reasons for name in names) else PRESET

    @property
    def concepts(self) -> Mapping[str, Mapping[str, Any]]:
        return self.config["text"]["concepts"]

    @property
    def small(self) -> set[int]:
        """Pictures that are whole and have no place in this run."""
        return {each.uid for each in self.found.dropped if each.uid is not None}

    @property
    def leads(self) -> list[tuple[str, str]]:
        """Trigger and class of every concept."""
        named = (self.concepts.get(group.name) or {} for group in self.found.concepts)
        return [(node.get("trigger") or "", node.get("class") or "") for node in named]


def choose(found: Found, base: Base, asked: Asked) -> Chosen:
    """The run.

    Raises:
        ConfigError: what the user said contradicts itself, or is no setting.
    """
    said = list(asked.words)
    first = [word("experiment", base.preset)]
    ours = _identity(found, base, asked) | {f"model.{key}": value for key, value in base.options.items()}
    reasons = dict.fromkeys(ours, "")
    before = compose([*first, *(word(key, value) for key, value in unless_said(ours, said).items()), *said])
    found, buckets = fitting(found, before)
    for part in (_data(found, before), _length(found, before, base), _learning(found, before, base, asked)):
        for key, (value, reason) in part.items():
            ours[key], reasons[key] = value, reason
    leads = _leads(found, before)
    if before["sample"]["prompts"] is None and leads:
        ours["sample.prompts"] = situations.prompts(leads, drawn=base.preset.endswith(TINY))
        reasons["sample.prompts"] = "four situations, and the class without the trigger"
    ours = unless_said(ours, said)
    words = [*first, *(word(key, value) for key, value in ours.items()), *said]
    config = compose(words)
    uids = [seen.uid for seen in found.pictures]
    named = keys(said) | _spoken(found, asked)
    return Chosen(
        found, base, tuple(words), config, {key: why for key, why in reasons.items() if key in ours}, frozenset(named),
        length.split(uids, config["catalogue"]["val_share"]), buckets,
    )  # fmt: skip


def _identity(found: Found, base: Base, asked: Asked) -> dict[str, Any]:
    """What the run is called and what it learns."""
    if asked.trigger is not None and len(found.concepts) > 1:
        raise ConfigError(
            f"there are {len(found.concepts)} concepts and one trigger",
            where="--trigger",
            do=f"name the sub-folders after their triggers, or say {CONCEPTS}.{found.concepts[0].name}.trigger=WORD",
        )
    concepts: dict[str, Any] = {}
    for group in found.concepts:
        concepts[group.name] = _concept(group, asked)
    for group in found.regularisation:
        kind = asked.kind or next(iter(concepts.values()))["class"]
        concepts[group.name] = {"class": kind, "prior": True}
    return {
        "name": _name(found, base),
        SOURCES: {group.name: {"root": str(group.root)} for group in found.groups},
        CONCEPTS: concepts,
    }


def _concept(group: Group, asked: Asked) -> dict[str, Any]:
    trigger = asked.trigger or trigger_of(group.title) or group.name
    counts = Counter(name for seen in group.pictures for name in seen.tags)
    prune = prune_of(counts, sum(bool(seen.tags) for seen in group.pictures))
    return {"trigger": trigger, "class": asked.kind or _kind(group, counts)} | ({"prune": prune} if prune else {})


def _kind(group: Group, counts: Mapping[str, int]) -> str:
    """What most pictures say they show; without a word of theirs a girl, as most anime characters are."""
    counts = {kind: counts.get(kind, 0) for kind in KINDS}
    most = max(counts, key=lambda kind: counts[kind])
    if counts[most] * 2 > len(group.pictures):
        return most.replace("_", " ") if most != "no_humans" else "style"
    return KINDS[0]


def _name(found: Found, base: Base) -> str:
    """Of the run and its files: whose it is, and for which family, since a file fits one only."""
    from .scan import slug

    title = found.folder.resolve().name
    kohya = kohya_folder(title)
    return "_".join(
        [slug(kohya[1] if kohya else title), base.family, *(["tiny"] if base.preset.endswith(TINY) else [])]
    )


def _data(found: Found, config: Mapping[str, Any]) -> dict[str, tuple[Any, str]]:
    """What is held out, and how often each concept's pictures come."""
    uids = [seen.uid for seen in found.pictures]
    wanted = length.held_out(len(uids))
    share = length.val_share(uids, wanted)
    number = length.split(uids, share)
    why = f"{number} of {len(uids)} pictures" if wanted else f"{len(uids)} pictures are too few to hold one out"
    chosen: dict[str, tuple[Any, str]] = {"catalogue.val_share": (share, why)}
    if sum(seen.width * seen.height for group in found.groups for seen in group.pictures) < QUICK:
        for key in ("catalogue.workers", "data.shard.workers"):
            chosen[key] = (0, "few pictures: read before other processes have begun")
    counts = {group.name: len(group.pictures) for group in found.groups}
    times = length.repeats(counts) if len(counts) > 1 else {}
    if times:
        chosen["data.loader.repeats"] = (times, "so that all are seen alike")
    return chosen


def _length(found: Found, config: Mapping[str, Any], base: Base) -> dict[str, tuple[Any, str]]:
    """How long, and how often something is looked at. The small preset is a rehearsal of its own length and rhythm."""
    train, batch = config["train"], config["data"]["loader"]["batch"]
    # What the user says about the length decides the rest too.
    default = flat(compose([word("experiment", base.preset)]))["train.images"]
    said = train["images"] if train["images"] != default and isinstance(train["images"], int) else None
    if base.preset.endswith(TINY):
        return _rhythm(said) if said else {}
    counts = [len(group.pictures) for group in found.concepts]
    seen = length.images(counts, batch=batch)
    if found.regularisation:
        seen *= 2  # every second picture is one of the class
    total = said or seen
    each = round(total / sum(counts))
    return {"train.images": (seen, f"{sum(counts)} pictures, about {each} views each")} | _rhythm(total)


def _rhythm(images: int) -> dict[str, tuple[Any, str]]:
    tenth = max(1, round(images / 10))
    return {
        "train.samples.every_images": (tenth, "every tenth of the run"),
        "train.validate.every_images": (max(1, tenth // 2), "every twentieth"),
        "train.checkpoint_every_images": (2 * tenth, "every fifth"),
    }


def _learning(found: Found, config: Mapping[str, Any], base: Base, asked: Asked) -> dict[str, tuple[Any, str]]:
    """What the number and kind of the pictures change about how is learned."""
    chosen: dict[str, tuple[Any, str]] = {}
    pictures, optim = len(found.pictures), config["optim"]
    usual = base.preset.endswith(LORA) and not base.preset.endswith(TINY) and asked.preset is None
    if usual and pictures <= FEW and optim["kind"] == "adamw":
        chosen["optim.lr"] = (2 * optim["lr"], f"up to {FEW} pictures twice the preset's")
    if found.regularisation and (config["recipe"].get("prior") or {}).get("kind", "none") != "none":
        folders = ", ".join(group.root.name for group in found.regularisation)
        chosen["recipe.prior.kind"] = ("none", f"the pictures in {folders} keep the class as it was")
    return chosen


def _leads(found: Found, config: Mapping[str, Any]) -> list[tuple[str, str]]:
    nodes = (config["text"]["concepts"].get(group.name) or {} for group in found.concepts)
    return [(node.get("trigger") or "", node.get("class") or "") for node in nodes]


def _spoken(found: Found, asked: Asked) -> set[str]:
    """Settings behind the options."""
    options = {"model.weights": asked.base, "experiment": asked.preset, "model.family": asked.family}
    for group in found.concepts:
        options |= {f"{CONCEPTS}.{group.name}.trigger": asked.trigger, f"{CONCEPTS}.{group.name}.class": asked.kind}
    return {key for key, value in options.items() if value is not None}

"""What a LoRA run would do, row by row, each with who said it. Knows config and sizes; prints nothing and loads no weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..check import check_values
from ..jobs import family_without_files
from ..learner import planned
from ..outlook import outlook
from ..verbs.plan import run_figures
from ..wiring import Workspace, bucket_plan, captions
from .base import TINY
from .begun import begun
from .choose import CONCEPTS, OURS, PRESET, YOU, Chosen
from .found import CURATE, EMPTY, GENERATED, SMALL, Group, allowing

SHOWN = 4  # buckets


@dataclass(frozen=True)
class Row:
    """One line of the plan. `origin` is empty for what follows from the other rows; `warns` is for what a person should look at."""

    name: str
    value: str
    origin: str = ""
    why: str = ""
    warns: bool = False


def rows(chosen: Chosen) -> list[Row]:
    """The whole plan.

    Raises:
        ConfigError: a setting that the run would stumble over. DataError: no picture is large enough.
    """
    config = chosen.config
    check_values(config)
    run_figures(config)  # tells of batch and schedule what is impossible
    fam = family_without_files(config)
    lora = planned(config, fam)
    assert lora is not None
    return [
        *_pictures(chosen),
        *_captions(chosen, fam),
        *_model(chosen, fam, lora),
        *_learning(chosen, lora),
        *_needs(chosen, fam),
        *_files(chosen),
    ]


def _pictures(chosen: Chosen) -> Iterator[Row]:
    found, config = chosen.found, chosen.config
    count = len(found.pictures)
    said = f"{count}: {count - chosen.held_out} to learn from, {chosen.held_out} held out"
    origin, why = chosen.origin("catalogue.val_share"), chosen.reasons.get("catalogue.val_share", "")
    few = count < 5 or not chosen.held_out
    if not chosen.held_out:
        why += ": so nothing will tell when to stop"
    elif count < 12:
        why += "; with so few the validation loss says little"
    yield Row("pictures", said, origin, why, warns=few)
    for group in found.regularisation:
        yield Row(f"of the class ({group.root.name})", f"{len(group.pictures)}", "", "keep the class as it was")
    times = config["data"]["loader"].get("repeats") or {}
    if times:
        told = ", ".join(f"{name} x {number:g}" for name, number in times.items())
        yield Row("repeats", told, chosen.origin("data.loader.repeats"), chosen.reasons.get("data.loader.repeats", ""))
    yield from _sizes(chosen)
    masks = Counter(seen.masked for seen in found.pictures if seen.masked)
    if empty := masks.pop(EMPTY, 0):
        first = next(seen.path.name for seen in found.pictures if seen.masked == EMPTY)
        yield Row("empty masks", f"{empty}, which count all of their picture", "", f"of {first}, for one", warns=True)
    if masks:
        background = (config["recipe"].get("mask") or {}).get("background")
        told = ", ".join(f"{number} by {kind}" for kind, number in masks.items())
        weight = "" if background is None else f"; the background counts {background:g}"
        yield Row("masks", told + weight, chosen.origin("recipe.mask"))


def _sizes(chosen: Chosen) -> Iterator[Row]:
    """Buckets that the pictures fall into, and those that are too small."""
    ordered = sorted(chosen.buckets.items(), key=lambda item: (-item[1], str(item[0])))
    told = ", ".join(f"{bucket} ({number})" for bucket, number in ordered[:SHOWN])
    more = f" and {len(ordered) - SHOWN} more" if len(ordered) > SHOWN else ""
    why = f"{len(ordered)} of {len(bucket_plan(chosen.config))} buckets"
    yield Row("sizes", told + more, chosen.origin("data.bucket"), why)
    load = chosen.config["data"]["loader"]
    chunk = load["batch"] // load["chunks_per_step"]
    rare = [str(bucket) for bucket, number in ordered if number < chunk]
    if rare:
        why = f"a step shows some of these twice, which does no harm; crop pictures to one shape, or data.loader.batch={chunk // 2}"
        yield Row("sizes of few", f"{len(rare)} of fewer than {chunk} pictures: {', '.join(rare[:SHOWN])}", "", why)
    small = [each for each in chosen.found.dropped if each.reason in SMALL]
    if small:
        reasons = Counter(each.reason.replace("_", " ") for each in small)
        told = ", ".join(f"{number} {reason}" for reason, number in reasons.most_common())
        yield Row("left out for size", told, "", f"{small[0].path.name}: {small[0].detail}", warns=True)
    generated = [each for each in chosen.found.dropped if each.reason == GENERATED]
    if generated:
        number = len(chosen.found.pictures) + sum(each.reason in (CURATE, GENERATED) for each in chosen.found.dropped)
        why = f"{generated[0].path.name} is {generated[0].detail}; {' '.join(allowing(generated))} takes them"
        yield Row("left out as generated", f"{len(generated)} of {number}", chosen.origin("curate"), why, warns=True)
    curated = [each for each in chosen.found.dropped if each.reason == CURATE]
    if curated:
        why = f"{curated[0].path.name}: {curated[0].detail}"
        yield Row(
            "left out by query",
            f"{len(curated)} of {len(curated) + len(chosen.found.pictures)}",
            chosen.origin("curate"),
            why,
        )


def _captions(chosen: Chosen, fam: Any) -> Iterator[Row]:
    several = len(chosen.found.concepts) > 1
    for group in chosen.found.concepts:
        node = chosen.concepts.get(group.name) or {}
        label, key = (f" ({group.root.name})" if several else ""), f"{CONCEPTS}.{group.name}"
        origin = chosen.origin(f"{key}.trigger")
        why = "the folder's name" if origin != YOU else ""
        if several:
            why = f"{len(group.pictures)} pictures"
        yield Row(f"trigger{label}", node.get("trigger") or "none", YOU if origin == YOU else OURS, why)
        origin = YOU if chosen.origin(f"{key}.class") == YOU else OURS
        yield Row(f"class{label}", node.get("class") or "none", origin, "what it is one of" if not several else "")
        if node.get("prune"):
            origin = YOU if chosen.origin(f"{key}.prune") == YOU else OURS
            yield Row(
                f"the trigger means{label}", ", ".join(node["prune"]), origin, "these tags are not written beside it"
            )
    counts: Counter[str] = sum((group.captions for group in chosen.found.concepts), Counter())
    told = ", ".join(f"{number} with {kind}" for kind, number in counts.most_common() if kind != "none")
    bare = counts["none"]
    told = ", ".join(filter(None, (told, f"{bare} without: trigger and class alone" if bare else "")))
    yield Row("captions", told, "", _cut(chosen, fam), warns=bool(bare and bare < len(chosen.found.pictures)))
    yield Row("one of them", _written(chosen, chosen.found.concepts[0], 1)[0], "")


def _written(chosen: Chosen, group: Group, most: int) -> list[str]:
    """Captions as the model will read them."""
    from ...text.caption import variants

    policy = captions(chosen.config)
    found = []
    for seen in group.pictures[:most]:
        facts = {**seen.facts, "width": seen.width, "height": seen.height, "source": group.name}
        found += [c.text for c in variants(facts, policy, count=1, seed=chosen.config["seed"], uid=seen.uid)]
    return found


def _cut(chosen: Chosen, fam: Any) -> str:
    """How many captions lose their end. Only small text encoders are asked now; large ones are when captions are encoded."""
    texts = [text for group in chosen.found.groups for text in _written(chosen, group, 500)]
    if not chosen.base.preset.endswith(TINY):
        longest = max(len(text.split()) for text in texts)
        return f"the longest has {longest} words; what is cut is told when they are encoded"
    from ...data.texts import count_truncated

    cut = {name: number for name, number in count_truncated(texts, fam.text_tower()).items() if number}
    return "; ".join(f"{name} cuts {number} of {len(texts)}" for name, number in cut.items()) or "none is cut"


def _model(chosen: Chosen, fam: Any, lora: Mapping[str, Any]) -> Iterator[Row]:
    base, sizes = chosen.base, fam.sizes()
    million = next(part.parameters for part in sizes) / 1e6
    size = f"{million / 1000:.2f} B" if million >= 1000 else f"{million:.1f} M"
    origin = chosen.origin("model.weights") if not base.found else OURS if base.preset.endswith(TINY) else PRESET
    path = "the small one that comes along" if base.found and base.preset.endswith(TINY) else str(base.path)
    yield Row("base", path, YOU if origin == YOU else origin, f"{fam.name}/{fam.flavour}, {size}")
    yield Row(
        "preset",
        base.preset,
        YOU if chosen.origin("experiment") == YOU else OURS,
        f"configs/experiment/{base.preset}.yaml",
    )
    ranks, scale = lora["ranks"], lora["scale"]
    scales = scale if isinstance(scale, list) else [scale]
    told = f"rank {' and '.join(map(str, ranks))}, alpha / rank {_span(scales)}"
    learns = f"{lora['parameters'] / 1e6:.1f} M parameters in {lora['layers']} layers ({lora['targets']})"
    yield Row(str(lora["kind"]), told, chosen.origin("learn"), learns)


def _learning(chosen: Chosen, lora: Mapping[str, Any]) -> Iterator[Row]:
    config = chosen.config
    train, batch, rate = config["train"], config["data"]["loader"]["batch"], config["optim"]["lr"]
    images = train["images"]
    why = (
        chosen.reasons.get("train.images") or f"about {images / max(1, len(chosen.found.pictures)):.0f} views a picture"
    )
    yield Row("length", f"{images:,} images = {-(-images // batch):,} steps of {batch}",
              chosen.origin("train.images", "data.loader.batch"), why)  # fmt: skip
    scale = lora["scale"] if isinstance(lora["scale"], list) else [lora["scale"]]
    effective = _span([rate * each for each in scale])
    plus = config["optim"].get("lora_plus", 1)
    up = f", up matrices {plus:g} times that (LoRA+)" if plus != 1 else ""
    yield Row("learning rate", f"{rate:g} x alpha / rank = {effective}, {config['optim']['kind']}{up}",
              chosen.origin("optim.lr", "optim"), chosen.reasons.get("optim.lr", ""))  # fmt: skip
    prior = (config["recipe"].get("prior") or {}).get("kind", "none")
    why = {"dop": "the class is pulled towards what the base draws", "none": ""}.get(prior, "")
    why = chosen.reasons.get("recipe.prior.kind", why)
    yield Row("prior", prior, chosen.origin("recipe.prior.kind", "recipe.prior"), why)
    prompts = len(config["sample"]["prompts"] or [])
    every = train["samples"]["every_images"]
    yield Row("samples", f"{prompts} pictures every {every:,} images",
              chosen.origin("train.samples.every_images", "sample.prompts"), "before it learns, too")  # fmt: skip


def _needs(chosen: Chosen, fam: Any) -> Iterator[Row]:
    """Memory, time and money; of a CPU neither is reckoned."""
    config = chosen.config
    if config["train"]["device"] == "cpu":
        yield Row("time", "told after a few steps; a rehearsal takes a minute or two on two cores", "", "CPU")
        return
    sections = outlook(config, fam)
    memory, time = sections["memory of one process, estimated"], sections["time and money, estimated"]
    unit = "GiB" if "GiB" in memory else "MiB"
    fits = next((str(value) for key, value in memory.items() if key.startswith("as set")), "").partition(";")[0]
    yield Row("GPU memory", f"about {str(memory['sum']).strip()} {unit}", "", fits.replace(" (one process)", ""))
    for key, value in time.items():
        if key.startswith("at ") and isinstance(value, Mapping) and key.endswith("of the chip"):
            names = [name.removeprefix("1 x ") for name in value]
            width = max(map(len, names))
            told = "\n".join(
                f"{name:<{width}}  {_short(str(each))}" for name, each in zip(names, value.values(), strict=True)
            )
            yield Row("time, estimated", told)
    yield _device()


def _short(told: str) -> str:
    """`0.20 images/s (...), 1 GPU-hours in 30 min, $1 to $2` without rates and GPU-hours."""
    *_, hours, cost = told.split(", ")
    return f"{hours.rpartition(' in ')[2]}, {cost}"


def _device() -> Row:
    import torch

    if not torch.cuda.is_available():
        return Row(
            "this machine", "has no GPU that torch sees", "", "animeflow doctor says why; --tiny needs none", warns=True
        )
    memory = torch.cuda.get_device_properties(0).total_memory / 2**30
    return Row("this machine", f"{torch.cuda.get_device_name()}, {memory:.0f} GiB")


def _files(chosen: Chosen) -> Iterator[Row]:
    place, name = Workspace.of(chosen.config), chosen.config["name"]
    there, why = begun(chosen.config), ""
    if there is not None:
        why = f"is there already, stopped at {there.images:,} images: it goes on from there"
        if there.finished:
            why = "is done: only its files, samples and page are made again"
    yield Row("run", str(place.run), chosen.origin("name", "run"), why)
    yield Row("its set", str(place.set), chosen.origin("name", "set"), "pictures and captions as the model reads them")
    yield Row("files", f"{name}.safetensors and one per other program", "", f"in {place.export}")


def _span(numbers: Sequence[float]) -> str:
    return " to ".join(f"{each:g}" for each in dict.fromkeys((min(numbers), max(numbers))))
